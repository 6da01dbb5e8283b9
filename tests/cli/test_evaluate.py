"""``proteus evaluate --sets``: the public function, and the command on two processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from runs import tool

from proteus.apis.evaluate_by_name import default_protocols, evaluate


def write(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    for part, count in (("train", 10), ("test", 4)):
        for label in range(3):
            path = folder / part / f"c{label}"
            path.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 60 + 80 * label, (32, 32, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(path / f"{number}.png")
    return folder


def test_two_ranks_write_the_report_of_one(tmp_path: Path) -> None:
    good, broken = write(tmp_path / "good"), write(tmp_path / "broken")
    (broken / "train/c1/3.png").write_bytes(b"\x89PNG")
    results = evaluate(
        "random:test_vit",
        sets=[good, broken],
        out=tmp_path / "one",
        img_size=32,
        batch_size=8,
        workers=0,
        device="cpu",
    )
    assert list(results) == ["knn", "fine-grained"]
    assert [list(result.rows) for result in results.values()] == [["good"], ["good"]]
    assert all("3.png" in result.failed["broken"] for result in results.values())
    options = ["--img-size", 32, "--batch-size", 8, "--workers", 0, "--device", "cpu", "--out", tmp_path / "two"]
    done = tool("evaluate", "--backbone", "random:test_vit", "--sets", good, broken, *options, ranks=2)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count("report.md") == 1
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("one", "two")]
    assert reports[0] == reports[1]
    # Features are extracted before the first protocol, and not again: k-NN and logistic regression have a table each.
    tables = [*(tmp_path / "two/features").glob("good-trainval-cls-*")]
    assert [np.load(table / "features.npy").shape for table in tables] == [(30, 1, 64)] * 2
    assert done.stderr.count("good-trainval: 100%") == 2


def test_protocols_follow_the_kinds_of_the_folders(tmp_path: Path) -> None:
    masks, classes = tmp_path / "streets", tmp_path / "birds"
    for name in ("images", "annotations"):
        (masks / name).mkdir(parents=True)
    assert default_protocols([classes]) == ("knn", "fine-grained")
    assert default_protocols([str(masks)]) == ("dense-knn",)
    captions = tmp_path / "photos"
    captions.mkdir()
    (captions / "dataset_coco.json").touch()
    assert default_protocols([captions]) == ("retrieval",)
    assert default_protocols([masks, classes]) == ("knn", "fine-grained", "dense-knn")
    assert "dense-knn" not in default_protocols([])
