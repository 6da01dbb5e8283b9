"""Which probe and which images the robustness protocol takes, and what it says where there are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from protocol_runs import bench
from runs import ROOT

from proteus.apis import load_config
from proteus.evaluation.protocols import EvalContext, Robustness

TESTS = {"imagenet-a": "imagenet-a.py", "imagenet-c": ["imagenet-c.py", "imagenet-c_generated.py"]}


@pytest.fixture
def found(tmp_path: Path) -> EvalContext:
    made = bench(tmp_path, cfg=load_config(ROOT / "configs/robustness/all.py"))
    made.load = load_config
    return made


def write_probe(folder: Path, classes: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "probe.py").write_text(f'model = dict(type="LinearProbe", num_classes={classes})\n')
    torch.save({}, folder / "iter_3.pth")
    (folder / "last_checkpoint").write_text(str(folder / "iter_3.pth"))
    return folder / "iter_3.pth"


def remember(found: EvalContext, protocol: str, run: str) -> None:
    row = found.out / f"results/{protocol}/imagenet.json"
    row.parent.mkdir(parents=True)
    row.write_text(json.dumps({"key": "", "result": {"run": run}}))


def test_without_a_probe_one_is_told_to_train(found: EvalContext) -> None:
    outcome = Robustness(tests=TESTS).run(found)
    assert not outcome.rows
    assert "run --protocols linear,robustness" in outcome.missing["linear probe"]


def test_a_probe_that_is_named_and_not_there(found: EvalContext, tmp_path: Path) -> None:
    lone = tmp_path / "lone/iter_3.pth"
    lone.parent.mkdir()
    torch.save({}, lone)  # without its config
    for probe in (lone, tmp_path / "gone/iter_3.pth"):
        with pytest.raises(FileNotFoundError, match=rf"protocol\.probe={probe}: no checkpoint with a config beside it"):
            Robustness(tests=TESTS, probe=str(probe)).run(found)


def test_the_papers_probe_comes_before_the_one_on_cached_features(found: EvalContext, tmp_path: Path) -> None:
    write_probe(found.out / "linear-cached/run", 7)
    remember(found, "linear-cached", "linear-cached/run")
    protocol = Robustness(tests=TESTS)
    checkpoint, model, note = protocol._found(found) or (None, None, "")
    assert checkpoint == found.out / "linear-cached/run/iter_3.pth"
    assert (model.num_classes, note) == (7, "the probe of --protocols linear-cached")
    write_probe(found.out / "linear/run", 9)
    remember(found, "linear", "linear/run")
    checkpoint, model, note = protocol._found(found) or (None, None, "")
    assert (model.num_classes, note) == (9, "the probe of --protocols linear")
    named = write_probe(tmp_path / "own", 11)
    checkpoint, model, _ = Robustness(tests=TESTS, probe=str(named))._found(found) or (None, None, "")
    assert (checkpoint, model.num_classes) == (named, 11)


def test_sets_that_are_not_on_disk_are_named_with_every_place(found: EvalContext, tmp_path: Path) -> None:
    probe = write_probe(tmp_path / "own", 1000)
    outcome = Robustness(tests=TESTS, probe=str(probe)).run(found)
    assert not outcome.rows
    assert outcome.missing["imagenet-a"].startswith(f"{found.data_root / 'imagenet-a'}, for ")
    first, _, rest = outcome.missing["imagenet-c"].partition(" or ")
    roots = [
        Path(load_config(ROOT / f"configs/robustness/{name}").test_dataloader.dataset.data_root).relative_to("data")
        for name in TESTS["imagenet-c"]
    ]
    assert first == str(found.data_root / roots[0])
    assert rest.startswith(f"{found.data_root / roots[1]}, for ")
