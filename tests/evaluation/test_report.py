"""Reports: contents, reading back, and damaged files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from proteus.evaluation.protocols import ProtocolResult
from proteus.evaluation.report import read_results, targets, write_report
from proteus.models.backbones import locate_backbone
from proteus.structures import DataError

ABOUT = {"width": 384, "parameters": 22_000_000, "img_size": 224, "precision": "float32"}


def results() -> dict[str, ProtocolResult]:
    fine = ProtocolResult(
        "Logistic regression", "%", rows={"cub": {"test": 80.125, "metric": "top1"}}, summary={"average": 79.0}
    )
    fine.missing["dtd"] = "data/dtd should hold\nlabels/train1.txt"
    fine.failed["cars"] = "cars_train_annos.mat is missing"
    return {"fine-grained": fine, "knn": ProtocolResult("k-NN", "accuracy, %")}


def test_the_papers_scores_are_in_the_row_of_the_same_set(tmp_path: Path) -> None:
    text = write_report(tmp_path, locate_backbone("random:tiny"), ABOUT, results()).read_text()
    head, cub, average = (
        next(line for line in text.splitlines() if line.startswith(start))
        for start in ("|  | test", "| cub", "| **average**")
    )
    columns = [cell.strip() for cell in head.split("|")]
    dinov2, proteus = (columns.index(f"{method} ViT-S/14 (paper)") for method in ("DINOv2", "Proteus"))
    assert [cell.strip() for cell in cub.split("|")][dinov2] == "87.50"
    assert [cell.strip() for cell in average.split("|")][proteus] == "85.80"
    assert "80.12" in cub
    assert "- not on disk: dtd: data/dtd should hold labels/train1.txt" in text
    assert "- failed: cars: cars_train_annos.mat is missing" in text


def test_the_same_results_give_the_same_files(tmp_path: Path) -> None:
    spec = locate_backbone("random:tiny")
    for name in ("a", "b"):
        write_report(tmp_path / name, spec, ABOUT, results())
    for file in ("report.json", "report.md"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    content = json.loads((tmp_path / "a/report.json").read_text())
    assert list(content["protocols"]) == ["fine-grained", "knn"]
    assert content["protocols"]["fine-grained"]["rows"]["cub"]["test"] == 80.125
    assert content["backbone"]["digest"] == spec.digest


def test_the_picture_has_every_protocol_with_scores(tmp_path: Path) -> None:
    spec = locate_backbone("random:tiny")
    write_report(tmp_path, spec, ABOUT, results())
    one = Image.open(tmp_path / "report.png").size
    more = results()
    more["knn"].rows["imagenet"] = {"k = 10": 70.0}
    write_report(tmp_path, spec, ABOUT, more)
    assert Image.open(tmp_path / "report.png").size[0] > one[0]


def test_no_picture_without_scores(tmp_path: Path) -> None:
    text = write_report(
        tmp_path, locate_backbone("random:tiny"), ABOUT, {"knn": ProtocolResult("k-NN", "%")}
    ).read_text()
    assert not (tmp_path / "report.png").exists()
    assert "report.png" not in text


def test_an_earlier_report_of_the_same_backbone_is_read(tmp_path: Path) -> None:
    spec = locate_backbone("random:tiny")
    write_report(tmp_path, spec, ABOUT, results())
    assert read_results(tmp_path, spec, ABOUT) == results()
    assert read_results(tmp_path, locate_backbone("random:tiny:1"), ABOUT) == {}
    assert read_results(tmp_path, spec, {**ABOUT, "img_size": 112}) == {}
    assert read_results(tmp_path, spec, {**ABOUT, "precision": "float16"}) == {}
    assert read_results(tmp_path, replace(spec, mean=(0.5,) * 3), ABOUT) == {}
    assert read_results(tmp_path / "nowhere", spec, ABOUT) == {}


def test_targets_equal_the_papers_tables() -> None:
    """Compare with tables 4 and 14 of the paper."""
    small = {row["method"]: row for row in targets(384)}
    assert small["Proteus"]["linear"] == {"imagenet": 81.8}
    assert small["DINOv2"]["robustness"]["imagenet-c"] == 54.3
    sets = {key: value for key, value in small["DINOv2"]["fine-grained"].items() if key != "average"}
    assert len(sets) == 12
    assert abs(sum(sets.values()) / 12 - small["DINOv2"]["fine-grained"]["average"]) < 0.06
    assert {row["width"] for row in targets(100)} == {192, 384, 768, 1024}


def test_each_average_is_the_mean_of_its_sets() -> None:
    for row in targets(0):
        scores = dict(row["fine-grained"])
        average = scores.pop("average")
        sets = [value for name, value in scores.items() if name not in ("gtsrb", "country211")]
        assert not sets or abs(sum(sets) / len(sets) - average) < 0.1, row


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"backbone": []}', b"[" * 100_000])
def test_a_file_that_is_not_a_report_raises(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(DataError, match=r"report\.json is damaged .*remove it"):
        read_results(tmp_path, locate_backbone("random:tiny"), ABOUT)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": []},
        {"rows": {"cub": {"test": float("nan")}}},
        {"rows": {"cub": 3}},
        {"summary": {"average": "79"}},
        {"missing": {"dtd": None}},
        {"notes": "grid"},
        {"title": None},
        {"other": 1},
    ],
)
def test_a_report_with_invalid_values_raises(tmp_path: Path, change: dict[str, Any]) -> None:
    spec = locate_backbone("random:tiny")
    write_report(tmp_path, spec, ABOUT, results())
    path = tmp_path / "report.json"
    content = json.loads(path.read_text())
    content["protocols"]["fine-grained"].update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"report\.json is damaged"):
        read_results(tmp_path, spec, ABOUT)
