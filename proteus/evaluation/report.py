"""What the protocols found out, for people, for programs and as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from proteus.evaluation.protocols.protocol import ProtocolResult
from proteus.models.backbones import BackboneSpec
from proteus.structures import DataError
from proteus.utils import read_json, write_json, write_text
from proteus.utils.pictures import save_picture

_TARGETS = Path(__file__).with_name("targets.json")


def targets(width: int) -> list[dict[str, Any]]:
    """The paper's figures (tables 3, 4, 7, 14 and 17) for backbones whose tokens are as wide; all where none is.

    Returns:
        For each, ``method``, ``arch``, ``width``, and its figures by protocol and data set.
    """
    rows: list[dict[str, Any]] = json.loads(_TARGETS.read_text(encoding="utf-8"))
    return [row for row in rows if row["width"] == width] or rows


def write_report(
    out: Path, spec: BackboneSpec, about: Mapping[str, Any], outcomes: Mapping[str, ProtocolResult]
) -> Path:
    """Write ``report.json``, ``report.md`` and, where there are figures, ``report.png``.

    Nothing in them depends on when or how often the evaluation was started.

    Args:
        out: Folder of the report; it is made.
        spec: The backbone.
        about: What else is known of it: ``width``, ``parameters``, and the arithmetic.
        outcomes: What each protocol found out.

    Returns:
        The path of ``report.md``.
    """
    out.mkdir(parents=True, exist_ok=True)
    near = targets(int(about["width"]))
    backbone = {"name": spec.name, "digest": spec.digest, "note": spec.note, "mean": spec.mean, "std": spec.std}
    drawn = draw_report(spec.name, outcomes, near, out / "report.png")
    outcomes = dict(sorted(outcomes.items()))
    content = {
        "backbone": {**backbone, "config": spec.config, **about},
        "protocols": {name: outcome.as_dict() for name, outcome in outcomes.items()},
        "targets": near,
    }
    write_json(out / "report.json", content, indent=1, default=str)
    lines = [f"# {spec.name}", "", _sentence(spec, about), ""]
    for name, outcome in outcomes.items():
        lines += _section(name, outcome, near)
    if drawn:
        lines += ["![Each data set's figure, and the paper's for backbones of this width](report.png)", ""]
    write_text(out / "report.md", "\n".join(lines))
    return out / "report.md"


def read_outcomes(out: Path, spec: BackboneSpec, about: Mapping[str, Any]) -> dict[str, ProtocolResult]:
    """Read the outcomes of an earlier report in the same folder, for the same backbone and image size.

    Raises:
        DataError: The report is damaged.
    """
    path = out / "report.json"
    if not path.is_file():
        return {}
    content = read_json(path)
    try:
        if [content["backbone"].get(key) for key in ("digest", "img_size")] != [spec.digest, about["img_size"]]:
            return {}
        return {name: _outcome(outcome) for name, outcome in content["protocols"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{path} is damaged ({type(error).__name__}: {error}); remove it and give the same command again"
        ) from error


def _outcome(content: Mapping[str, Any]) -> ProtocolResult:
    outcome = ProtocolResult(**content)
    for name, empty in vars(ProtocolResult("", "")).items():
        value = getattr(outcome, name)
        if type(value) is not type(empty):
            raise ValueError(f"{name} is {value!r:.40}")
    figures = [*outcome.summary.values(), *(value for row in outcome.rows.values() for value in row.values())]
    if any(isinstance(value, float) and not math.isfinite(value) for value in figures):
        raise ValueError("a figure is not a number")
    texts = [*outcome.missing.values(), *outcome.failed.values(), *outcome.notes, *outcome.pictures]
    numbers = all(type(value) in (int, float) for value in outcome.summary.values())
    if not numbers or not all(isinstance(text, str) for text in texts):
        raise ValueError("values of another type")
    return outcome


def main_figure(row: Mapping[str, Any]) -> float | None:
    """The first number of a row, which is the one that a protocol is quoted by."""
    return next((value for value in row.values() if isinstance(value, (int, float))), None)


def table(name: str, outcome: ProtocolResult, near: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown: a row for each data set and each summary, the paper's figures in the last columns."""
    columns = list(dict.fromkeys(column for row in outcome.rows.values() for column in row))
    shown = {*outcome.rows, *outcome.summary}
    beside = [target for target in near if shown & set(target.get(name, ()))]
    head = ["", *columns, *(f"{target['method']} {target['arch']} (paper)" for target in beside)]
    rows = [[title, *(_cell(row.get(column)) for column in columns)] for title, row in outcome.rows.items()]
    rows += [[f"**{title}**", _cell(value), *[""] * (len(columns) - 1)] for title, value in outcome.summary.items()]
    for row in rows:
        row += [_cell(target[name].get(row[0].strip("*"))) for target in beside]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]


def draw_report(
    name: str, outcomes: Mapping[str, ProtocolResult], near: list[dict[str, Any]], path: Path
) -> Path | None:
    """Draw each protocol's main figures as bars, and the paper's as marks; None where there are no figures.

    Args:
        name: The backbone's name, for the title.
        outcomes: What each protocol found out.
        near: The paper's figures to mark.
        path: File to write.
    """
    figures = {
        protocol: {title: value for title, row in outcome.rows.items() if (value := main_figure(row)) is not None}
        | outcome.summary
        for protocol, outcome in outcomes.items()
    }
    figures = {protocol: values for protocol, values in figures.items() if values}
    if not figures:
        return None
    widths = [max(2, len(values)) for values in figures.values()]
    figure = Figure(figsize=(2.2 + 0.62 * sum(widths) + len(widths), 4.2), layout="constrained")
    axes = figure.subplots(1, len(figures), squeeze=False, gridspec_kw={"width_ratios": widths})[0]
    for axis, (protocol, values) in zip(axes, figures.items(), strict=True):
        names = list(values)
        axis.bar(range(len(names)), list(values.values()), color="#4477aa", width=0.6, label="this backbone")
        for mark, target in zip("_xDo^v*", [target for target in near if protocol in target], strict=False):
            known = [(i, target[protocol][title]) for i, title in enumerate(names) if title in target[protocol]]
            if known:
                label = f"{target['method']} {target['arch']} (paper)"
                axis.scatter(*zip(*known, strict=True), marker=mark, s=60, zorder=3, label=label)
        for i, value in enumerate(values.values()):
            axis.text(i, value, f"{value:.1f}", ha="center", va="bottom", fontsize=8)
        axis.set_xticks(range(len(names)), names, rotation=40, ha="right")
        axis.set(ylabel=outcomes[protocol].unit, xlim=(-0.7, len(names) - 0.3), ylim=(0, 105))
        axis.set_title(outcomes[protocol].title, fontsize=9)
        if len(axis.get_legend_handles_labels()[0]) > 1:
            axis.legend(fontsize=7, loc="lower right")
    figure.suptitle(name, fontsize=10)
    return save_picture(figure, path)


def _section(name: str, outcome: ProtocolResult, near: list[dict[str, Any]]) -> list[str]:
    lines = [f"## {outcome.title} ({outcome.unit})", ""]
    if outcome.rows:
        lines += [*table(name, outcome, near), ""]
    said = [f"- {note}" for note in outcome.notes]
    said += [f"- failed: {title}: {_one_line(reason)}" for title, reason in outcome.failed.items()]
    said += [f"- not on disk: {title}: {_one_line(where)}" for title, where in outcome.missing.items()]
    lines += [*said, ""] if said else []
    for picture in outcome.pictures:
        lines += [f"![{outcome.title}]({picture})", ""]
    return lines


def _sentence(spec: BackboneSpec, about: Mapping[str, Any]) -> str:
    words = f"{spec.config['type']} {spec.config.get('arch', '')}".strip()
    note = f" Note: {spec.note}." if spec.note else ""
    return (
        f"{words}, {about['parameters'] / 1e6:.2f} M parameters, width {about['width']}, {about['img_size']} px, "
        f"features in {about['precision']}; weights {spec.digest[:12]}.{note}"
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())
