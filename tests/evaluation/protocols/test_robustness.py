"""Selection of probe and images in the robustness protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from protocol_runs import eval_context
from runs import ROOT

from proteus.apis import load_config
from proteus.evaluation.protocols import EvalContext, Robustness
from proteus.structures import ConfigError

TESTS = {"imagenet-a": "imagenet-a.py", "imagenet-c": ["imagenet-c.py", "imagenet-c_generated.py"]}


@pytest.fixture
def context(tmp_path: Path) -> EvalContext:
    made = eval_context(tmp_path, cfg=load_config(ROOT / "configs/robustness/all.py"))
    made.load = load_config
    return made


def write_probe(folder: Path, classes: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "probe.py").write_text(f'model = dict(type="LinearProbe", num_classes={classes})\n')
    torch.save({}, folder / "iter_3.pth")
    (folder / "last_checkpoint").write_text(str(folder / "iter_3.pth"))
    return folder / "iter_3.pth"


def write_result(context: EvalContext, protocol: str, run: str) -> None:
    row = context.out / f"results/{protocol}/imagenet.json"
    row.parent.mkdir(parents=True)
    row.write_text(json.dumps({"key": "", "result": {"run": run}}))


def test_a_missing_probe_is_reported_with_the_command_that_trains_one(context: EvalContext) -> None:
    result = Robustness(tests=TESTS).run(context)
    assert not result.rows
    assert "run --protocols linear,robustness" in result.missing["linear probe"]


def test_a_probe_that_does_not_exist_raises(context: EvalContext, tmp_path: Path) -> None:
    lone = tmp_path / "lone/iter_3.pth"
    lone.parent.mkdir()
    torch.save({}, lone)  # without its config
    for probe in (lone, tmp_path / "gone/iter_3.pth"):
        with pytest.raises(FileNotFoundError, match=rf"protocol\.probe={probe}: no checkpoint with a config in the"):
            Robustness(tests=TESTS, probe=str(probe)).run(context)


def test_the_papers_probe_takes_precedence_over_the_cached_one(context: EvalContext, tmp_path: Path) -> None:
    write_probe(context.out / "linear-cached/run", 7)
    write_result(context, "linear-cached", "linear-cached/run")
    protocol = Robustness(tests=TESTS)
    checkpoint, model, note = protocol._find_probe(context) or (None, None, "")
    assert checkpoint == context.out / "linear-cached/run/iter_3.pth"
    assert (model.num_classes, note) == (7, "the probe of --protocols linear-cached")
    write_probe(context.out / "linear/run", 9)
    write_result(context, "linear", "linear/run")
    checkpoint, model, note = protocol._find_probe(context) or (None, None, "")
    assert (model.num_classes, note) == (9, "the probe of --protocols linear")
    named = write_probe(tmp_path / "own", 11)
    checkpoint, model, _ = Robustness(tests=TESTS, probe=str(named))._find_probe(context) or (None, None, "")
    assert (checkpoint, model.num_classes) == (named, 11)


def test_missing_sets_are_reported_with_every_expected_folder(context: EvalContext, tmp_path: Path) -> None:
    probe = write_probe(tmp_path / "own", 1000)
    result = Robustness(tests=TESTS, probe=str(probe)).run(context)
    assert not result.rows
    assert result.missing["imagenet-a"].startswith(f"{context.data_root / 'imagenet-a'}, for ")
    first, _, rest = result.missing["imagenet-c"].partition(" or ")
    roots = [
        Path(load_config(ROOT / f"configs/robustness/{name}").test_dataloader.dataset.data_root).relative_to("data")
        for name in TESTS["imagenet-c"]
    ]
    assert first == str(context.data_root / roots[0])
    assert rest.startswith(f"{context.data_root / roots[1]}, for ")


def own_test(tmp_path: Path, base: str, **dataset: Any) -> str:
    """A user's test config with an absolute folder, outside of the folder of all data sets."""
    path, root = tmp_path / f"{base}.py", tmp_path / "elsewhere" / base
    dataset = {"data_root": str(root), **dataset}
    path.write_text(
        f'_base_ = "{ROOT}/configs/robustness/imagenet-{base}.py"\ntest_dataloader = dict(dataset={dataset!r})\n'
    )
    return str(path)


def put(tmp_path: Path, *names: str) -> None:
    """Images that are listed and never opened."""
    for name in names:
        path = tmp_path / "elsewhere" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_rows_are_kept_until_the_images_or_the_probe_change(
    context: EvalContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: list[str] = []

    def test(cfg: Any, checkpoint: Any) -> dict[str, float]:
        tested.append(Path(cfg.work_dir).name)
        return {"accuracy/top1": 3.0}

    context.test = test
    tests = {
        "r": own_test(tmp_path, "r", variant=None),
        "c": own_test(tmp_path, "c", all_classes=False),
    }
    probe = write_probe(context.out / "own", 1000)

    def run() -> list[str]:
        tested.clear()
        result = Robustness(tests=tests, probe=str(probe)).run(context)
        assert list(result.rows) == ["r", "c"], result.failed
        return list(tested)

    fog = [f"c/fog/{severity}/n01440764/x.JPEG" for severity in range(1, 6)]
    put(tmp_path, "r/n01440764/x.JPEG", *fog)
    assert run() == ["r", "c"]
    assert run() == []
    # Workers and another spelling of the folder change no score.
    monkeypatch.chdir(tmp_path)
    context.out, context.store.num_workers, probe = Path("out"), 3, Path("out/own/iter_3.pth")
    assert run() == []
    # More of each set is unpacked.
    put(tmp_path, "r/n01443537/x.JPEG")
    assert run() == ["r"]
    put(tmp_path, *(name.replace("fog", "snow") for name in fog))
    assert run() == ["c"]
    put(tmp_path, fog[2].replace("x.JPEG", "y.JPEG"))
    assert run() == ["c"]
    torch.save({"state_dict": {}}, probe)
    assert run() == ["r", "c"]


def test_a_folder_below_data_is_looked_up_in_the_data_root(context: EvalContext, tmp_path: Path) -> None:
    roots = {
        str(tmp_path / "x"): tmp_path / "x",
        "data/imagenet-a": context.data_root / "imagenet-a",
        "./data/x": context.data_root / "x",
        "mine/x": context.data_root / "mine/x",
    }
    for written, expected in roots.items():
        cfg = load_config(own_test(tmp_path, "a", data_root=written))
        assert Robustness(tests=TESTS)._root(cfg, context) == expected


def test_a_test_config_without_a_folder_is_one_line(context: EvalContext, tmp_path: Path) -> None:
    probe = write_probe(tmp_path / "own", 1000)
    (tmp_path / "mine.py").write_text('default_scope = "proteus"\n')
    with pytest.raises(ConfigError, match=r"mine\.py: test_dataloader\.dataset\.data_root: missing; write the set's"):
        Robustness(tests={"x": str(tmp_path / "mine.py")}, probe=str(probe)).run(context)
