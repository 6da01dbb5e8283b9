"""Tables of students in README and ``docs/study.md`` show the figures in ``benchmarks/results``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from proteus.utils import read_json

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"
COLUMNS = {
    "CIFAR-10 k-NN": ("cifar_knn", 1),
    "CIFAR-10 logistic": ("cifar_logistic", 1),
    "CamVid patch mIoU": ("camvid_miou", 1),
    "CamVid mIoU": ("camvid_miou", 1),
    "patch cosine": ("patch_cosine", 3),
    "cls cosine": ("cls_cosine", 3),
}
IN_README = {
    "random weights, no training": "random",
    "LightlyTrain 0.18, from random weights": "lightly-train-best",
    "Proteus, from random weights": "plus-random",
    "Proteus, sliced, no training": "sliced",
    "Proteus, sliced, then trained": "plus-sliced",
    "the same with 105,600 views, average of weights, one seed": "105600",
    "the teacher": "teacher",
}


def table_rows(page: str) -> list[tuple[str, dict[str, str]]]:
    """Return the first cell and the cells of known columns of each table row on a page, without bold."""
    rows, header = [], []
    for line in (ROOT / page).read_text().splitlines():
        if not line.startswith("|"):
            header = []
            continue
        cells = [cell.strip().replace("**", "") for cell in line.strip("|").split("|")]
        if header and not set(line) <= set("|-: "):
            rows.append((cells[0], {name: cell for name, cell in zip(header, cells, strict=True) if name in COLUMNS}))
        header = header or cells
    return rows


def students() -> dict[str, Any]:
    """Return the figures of each contender, of the teacher, and of the long run by its views."""
    study, long = read_json(RESULTS / "study.json"), read_json(RESULTS / "study_long.json")
    contenders = {**study["rows"], **read_json(RESULTS / "study_224.json")["rows"]}
    return {**contenders, "teacher": {"mean": study["teacher"]}, **{k: {"mean": v} for k, v in long["points"].items()}}


def shown(student: dict[str, Any], column: str) -> str:
    name, decimals = COLUMNS[column]
    cell = f"{student['mean'][name]:.{decimals}f}" if name in student["mean"] else ""
    has_spread = len(student.get("seeds", ())) > 1 and student.get("spread")
    return f"{cell} ± {student['spread'][name]:.{decimals}f}" if has_spread else cell


def test_readme_shows_the_results() -> None:
    known, rows = students(), [row for row in table_rows("README.md") if row[1]]
    assert [name for name, _ in rows] == list(IN_README)
    for name, cells in rows:
        assert cells == {column: shown(known[IN_README[name]], column) for column in cells}, name


def test_study_shows_the_results() -> None:
    known, seen = students(), set()
    for label, cells in table_rows("docs/study.md"):
        name = label.split(":")[0].split(",")[0].removeprefix("the ") if "views" not in label else label
        name = name if name in known else label.replace(",", "")
        if cells and name in known:
            seen.add(name)
            assert cells == {column: shown(known[name], column) for column in cells}, label
    assert seen >= {"teacher", "plus-sliced", "sliced-teachers", "mobilenet", "plain-224", "17600", "105600"}
