"""Shared parts of comparisons over seeds: the output folder, cached results and the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from proteus.structures import DataError
from proteus.utils import read_json, write_json


def claim(out: Path, comparison: dict[str, Any]) -> None:
    """Record the settings of a comparison in its folder.

    Raises:
        DataError: The folder has results of other settings.
    """
    note = out / "comparison.json"
    if note.is_file():
        other = read_json(note)
        if other != comparison:
            raise DataError(f"--out {out} has results of {other}, not of {comparison}; choose another folder")
    write_json(note, comparison)


def once(work_dir: Path, options: dict[str, Any], run: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return a run's metrics, from ``result.json`` in its folder if that has the same options, else by running it."""
    kept = work_dir / "result.json"
    if kept.is_file():
        result = read_json(kept)
        if not isinstance(result, dict) or not isinstance(result.get("metrics"), dict) or "options" not in result:
            raise DataError(f"{kept} is damaged (no options and metrics); remove it and re-run the command")
        if result["options"] == options:
            return dict(result["metrics"])
    metrics = run()
    write_json(kept, {"options": options, "metrics": metrics}, indent=2)
    return metrics


def table_of(figure: str, rows: Mapping[str, str], results: Sequence[Mapping[str, float]]) -> str:
    """Format a metric's mean and standard deviation over seeds, and each value; rows without results are left out."""
    lines = [f"{figure:40}{'mean':>8}{'std':>8}   seeds"]
    for key, title in ((key, title) for key, title in rows.items() if key in results[0]):
        values = [result[key] for result in results]
        spread = f"{stdev(values):8.2f}" if len(values) > 1 else f"{'-':>8}"
        lines.append(f"{title:40}{mean(values):8.2f}{spread}   {' '.join(f'{value:.1f}' for value in values)}")
    return "\n".join(lines)
