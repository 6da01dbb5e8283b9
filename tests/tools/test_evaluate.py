"""``tools/evaluate.py`` in separate processes."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from runs import ROOT, start, tool, trained
from timm.data import ImageNetInfo

from proteus.apis.evaluate import CONFIGS

FAST = ["--img-size", "32", "--workers", "0", "--device", "cpu"]


def write(folder: Path, classes: int = 3, train: int = 16, test: int = 6) -> Path:
    generator = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for label in range(classes):
            colour = generator.integers(0, 255, 3) if part == "train" else np.full(3, 40 * label)
            path = folder / part / f"c{label}"
            path.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(generator.normal(colour, 50, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(path / f"{number}.png")
    return folder


def report(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_text())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write(folder / "one")
    write(folder / "two", classes=2)
    return folder


def arguments(data: Path, out: Path, protocols: str = "knn,fine-grained,linear-cached") -> list[str]:
    sets = ["--sets", str(data / "one"), str(data / "two")]
    return [
        "--backbone",
        "random:test_vit",
        "--data-root",
        str(data),
        "--protocols",
        protocols,
        "--out",
        str(out),
        *sets,
        *FAST,
    ]


@pytest.mark.slow
def test_an_interrupted_evaluation_resumes_and_gives_the_same_report(data: Path, tmp_path: Path) -> None:
    probe = tmp_path / "linear-cached.py"  # 60 iterations and 2 validations, not 1,000 and 20
    probe.write_text(
        f'_base_ = "{ROOT / "configs" / CONFIGS["linear-cached"]}"\n'
        "protocol = dict(min_iterations=60, epochs=1, validations=2)\n"
    )
    protocols = f"knn,fine-grained,{probe}"
    whole = trained("evaluate.py", *arguments(data, tmp_path / "whole", protocols))
    assert set(report(tmp_path / "whole")["protocols"]) == {"knn", "fine-grained", "linear-cached"}
    out = tmp_path / "resumed"
    process = start("evaluate.py", *arguments(data, out, protocols))
    # In the middle of the probe's run, after a checkpoint.
    while not list(out.glob("linear-cached/*/iter_*.pth")):
        assert process.exitcode is None, "it ended before it could be interrupted"
        time.sleep(0.05)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    again = trained("evaluate.py", *arguments(data, out, protocols))
    assert "one-trainval:" in whole
    assert "one-trainval:" not in again  # features are kept
    first, second = report(tmp_path / "whole"), report(out)
    assert first == second
    assert (tmp_path / "whole/report.md").read_text() == (out / "report.md").read_text()
    for name in ("report.png", *first["protocols"]["linear-cached"]["pictures"]):
        assert Image.open(out / name).size[0] > 100
    third = trained("evaluate.py", *arguments(data, out, protocols))
    assert "Iter(train)" not in third
    assert report(out) == first


@pytest.mark.slow
def test_a_probe_of_imagenet_is_tested_on_imagenet_a(tmp_path: Path) -> None:
    wnids = ImageNetInfo().label_names()
    subset = json.loads((ROOT / "proteus/datasets/robustness/imagenet_subsets.json").read_text())["imagenet_a_classes"]
    for part, count in (("imagenet/train", 2), ("imagenet/val", 1)):
        for number in subset[:3]:
            for image in range(count):
                _save(tmp_path / "data" / part / wnids[number] / f"{image}.png", number)
    for number in subset:
        _save(tmp_path / "data/imagenet-a" / wnids[number] / "0.png", number)
    common = [
        "--backbone",
        "random:test_vit",
        "--data-root",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "out"),
        *FAST,
    ]
    done = tool("evaluate.py", *common, "--protocols", "robustness")
    assert "run --protocols linear,robustness" in done.stdout
    options = ["--cfg-options", "protocol.min_iterations=4", "protocol.validations=1"]
    trained("evaluate.py", *common, "--protocols", "linear", *options)
    done = tool("evaluate.py", *common, "--protocols", "robustness")
    assert done.returncode == 1, done.stderr
    rows = report(tmp_path / "out")["protocols"]["robustness"]
    assert set(rows["rows"]) == {"imagenet-a"}
    assert set(rows["missing"]) == {"imagenet-sketch", "imagenet-r"}
    assert rows["rows"]["imagenet-a"]["top-1 or mCE"] == pytest.approx(0.5, abs=1.51)  # of 200 classes, three were seen
    assert "ImageNet-A" in rows["rows"]["imagenet-a"]["images"]
    # The validation images are a small copy, which the published set's test refuses.
    assert "has 1000 class folders" in rows["failed"]["imagenet"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--protocols", "knm"], "unknown protocol 'knm'; choose from: knn, linear"),
        (["--backbone", "nowhere/x.pth"], "weights not found"),
        (["--backbone", "test_vitt"], "nearest: .*test_vit"),
        (["--data-root", "nowhere"], "no such folder"),
        (["--cfg-options", "protocol.kz=3"], "exactly one protocol"),
        (["--protocols", "knn", "--cfg-options", "protocol.kz=3"], "protocol.kz"),
    ],
)
def test_a_mistake_is_reported_in_a_sentence(data: Path, tmp_path: Path, change: list[str], words: str) -> None:
    done = tool("evaluate.py", *arguments(data, tmp_path / "out"), *change)
    assert done.returncode == 2
    assert re.search(words, done.stderr), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_only_a_wrong_set_fails_and_the_status_is_1(data: Path, tmp_path: Path) -> None:
    broken = write(tmp_path / "broken")
    image = broken / "test/c1/3.png"
    image.write_bytes(image.read_bytes()[:60])
    done = tool("evaluate.py", *arguments(data, tmp_path / "out", "knn"), "--sets", str(broken))
    assert done.returncode == 1, done.stderr
    content = report(tmp_path / "out")["protocols"]["knn"]
    assert list(content["rows"]) == ["one", "two"]
    assert str(image) in content["failed"]["broken"]


def _save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
