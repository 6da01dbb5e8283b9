"""Choose learning rates of ``study.py``, and write its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

Figures = Mapping[str, float]

COLUMNS = {
    "cifar_knn": ("CIFAR-10 k-NN", 1),
    "cifar_logistic": ("CIFAR-10 logistic", 1),
    "camvid_miou": ("CamVid patch mIoU", 1),
    "patch_cosine": ("patch cosine", 3),
    "cls_cosine": ("cls cosine", 3),
    "rank_cls": ("rank cls", 0),
    "rank_patch": ("rank patch", 0),
}
"""Title and decimals of each figure."""
CHOSEN_BY = ("cifar_logistic", "camvid_miou", "patch_cosine")
"""Figures of the validation split that choose the learning rate."""
# Figures that have a better end: a higher effective rank is not better in itself.
_BOLD = ("cifar_knn", "cifar_logistic", "camvid_miou", "patch_cosine", "cls_cosine")


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: Name of the contender.
        about: What it is.
        group: Part of the table.
        rate: Chosen learning rate; None if there was none to choose.
        seeds: Figures of the test split, one dict per seed.
        speeds: Images/s of the trainings.
        note: Remark on its figures.
    """

    name: str
    about: str
    group: str
    rate: float | None = None
    seeds: Sequence[Figures] = ()
    speeds: Sequence[float] = ()
    note: str = ""
    validation: Mapping[str, Figures] = field(default_factory=dict)

    def mean(self, figure: str) -> float:
        """Return the mean of a figure over seeds."""
        return mean(each[figure] for each in self.seeds)

    def spread(self, figure: str) -> float | None:
        """Return the standard deviation of a figure over seeds; None for fewer than two."""
        return stdev(each[figure] for each in self.seeds) if len(self.seeds) > 1 else None


def choose_rate(validation: Mapping[float, Figures]) -> float:
    """Return the rate with the lowest mean rank over the figures of :data:`CHOSEN_BY`; of equal ones the lowest rate.

    Equal figures share the mean of their ranks.

    Args:
        validation: Figures of the validation split by rate, without trainings that diverged.

    Raises:
        ValueError: ``validation`` is empty.
    """
    if not validation:
        raise ValueError("no training to choose a rate from: all of them diverged")

    def rank(rate: float, figure: str) -> float:
        own, others = validation[rate][figure], [each[figure] for each in validation.values()]
        return sum(other > own for other in others) + sum(other == own for other in others) / 2

    return min(sorted(validation), key=lambda rate: sum(rank(rate, figure) for figure in CHOSEN_BY))


def best_rows(rows: Sequence[Row]) -> dict[str, str]:
    """Name the best row of each figure, where it is better than the runner-up beyond both spreads.

    The intervals of one spread around the two means do not overlap. Without a spread, nothing is best.
    """
    best = {}
    for figure in _BOLD:
        ranked = sorted((row for row in rows if row.seeds), key=lambda row: row.mean(figure), reverse=True)
        if len(ranked) < 2:
            continue
        spreads = [row.spread(figure) for row in ranked[:2]]
        if None not in spreads and ranked[0].mean(figure) - ranked[1].mean(figure) > sum(map(float, spreads)):  # type: ignore[arg-type]
            best[figure] = ranked[0].name
    return best


def format_table(rows: Sequence[Row], teacher: Figures | None) -> str:
    """Format the rows as a Markdown table, the teacher last."""
    best = best_rows(rows)
    titles = ["student", "learning rate", *(title for title, _ in COLUMNS.values()), "images/s"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for row in rows:
        cells = [f"{row.name}{f' ({row.note})' if row.note else ''}", "" if row.rate is None else f"{row.rate:g}"]
        for figure in COLUMNS:
            text = _cell(row, figure)
            cells.append(f"**{text}**" if best.get(figure) == row.name else text)
        cells.append(f"{mean(row.speeds):.1f}" if row.speeds else "")
        lines.append("| " + " | ".join(cells) + " |")
    if teacher is not None:
        cells = [
            _number(teacher[figure], digits) if figure in teacher else "" for figure, (_, digits) in COLUMNS.items()
        ]
        lines.append("| " + " | ".join(["the teacher", "", *cells, ""]) + " |")
    return "\n".join(lines) + "\n"


def as_record(row: Row) -> dict[str, Any]:
    """Return a row for JSON."""
    return {
        "about": row.about,
        "group": row.group,
        "learning_rate": row.rate,
        "validation": dict(row.validation),
        "seeds": [dict(each) for each in row.seeds],
        "mean": {figure: row.mean(figure) for figure in COLUMNS} if row.seeds else {},
        "spread": {figure: row.spread(figure) for figure in COLUMNS} if row.seeds else {},
        "images_per_second": list(row.speeds),
    }


def _cell(row: Row, figure: str) -> str:
    if not row.seeds:
        return "-"
    digits, spread = COLUMNS[figure][1], row.spread(figure)
    text = _number(row.mean(figure), digits)
    return text if spread is None else f"{text} ± {_number(spread, digits)}"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"
