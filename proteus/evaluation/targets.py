"""Published scores to compare with: the paper's, and those of peers under the same settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TARGETS = Path(__file__).with_name("targets.json")


def targets(width: int) -> list[dict[str, Any]]:
    """Return the paper's scores (tables 3, 4, 7, 14 and 17, and section A.1) for backbones of this width.

    Returns:
        For each backbone ``method``, ``arch``, ``width``, and its scores by protocol and data set. All rows if none has
        this width.
    """
    rows = [row for row in _rows() if "peer" not in row]
    return [row for row in rows if row["width"] == width] or rows


def peers(width: int) -> list[dict[str, Any]]:
    """Return published scores of backbones of this width that are not in the paper.

    Returns:
        Rows as those of :func:`targets`; ``peer`` is the source.
    """
    return [row for row in _rows() if "peer" in row and row["width"] == width]


def label(row: Mapping[str, Any]) -> str:
    """Return the name of a row: method, architecture, and whether it is the paper's or a peer's."""
    return f"{row['method']} {row['arch']} ({'peer' if 'peer' in row else 'paper'})"


def published_line(config: str | Path) -> str:
    """Return the published scores under the settings of a dense config, as a line for the log.

    Args:
        config: Path of the config, such as ``configs/ade20k/vit-s_linear-dinov3.py``.

    Returns:
        The line; empty if no score is known for a backbone of this size and these settings.
    """
    path = Path(config)
    size, _, settings = path.stem.partition("_")
    key = f"{path.parent.name}_{settings}"
    known = [row for row in _rows() if key in row and row["arch"].lower().partition("/")[0] == size]
    scores = [f"{name} {value:g} by {label(row)}" for row in known for name, value in row[key].items()]
    return f"published with these settings, not measured here: {'; '.join(scores)}" if scores else ""


def _rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(_TARGETS.read_text(encoding="utf-8"))
    return rows
