"""Reports of an evaluation: Markdown, JSON and a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from proteus.evaluation.protocols.protocol import ProtocolResult
from proteus.evaluation.targets import label, peers, targets
from proteus.models.backbones import BackboneSpec
from proteus.structures import DataError
from proteus.utils import read_json, write_json, write_text
from proteus.utils.pictures import save_picture


def write_report(
    out: Path, spec: BackboneSpec, about: Mapping[str, Any], results: Mapping[str, ProtocolResult]
) -> Path:
    """Write ``report.json``, ``report.md`` and, if there are scores, ``report.png``.

    Their contents do not depend on when or how often the evaluation was started.

    Args:
        out: Folder of the report; it is created.
        spec: The backbone.
        about: Further facts about it: ``width``, ``parameters``, ``img_size`` and ``precision``.
        results: Results by protocol.

    Returns:
        The path of ``report.md``.
    """
    out.mkdir(parents=True, exist_ok=True)
    near = targets(int(about["width"])) + peers(int(about["width"]))
    backbone = {"name": spec.name, "digest": spec.digest, "note": spec.note, "mean": spec.mean, "std": spec.std}
    drawn = draw_report(spec.name, results, near, out / "report.png")
    results = dict(sorted(results.items()))
    content = {
        "backbone": {**backbone, "config": spec.config, **about},
        "protocols": {name: result.as_dict() for name, result in results.items()},
        "targets": near,
    }
    write_json(out / "report.json", content, indent=1, default=str)
    lines = [f"# {spec.name}", "", _sentence(spec, about), ""]
    for name, result in results.items():
        lines += _section(name, result, near)
    if drawn:
        lines += ["![Scores by data set, with published ones for backbones of this width](report.png)", ""]
    write_text(out / "report.md", "\n".join(lines))
    return out / "report.md"


def read_results(out: Path, spec: BackboneSpec, about: Mapping[str, Any]) -> dict[str, ProtocolResult]:
    """Read the results of an earlier report in the same folder for the same backbone, image size and precision.

    Raises:
        DataError: The report is damaged.
    """
    path = out / "report.json"
    if not path.is_file():
        return {}
    content = read_json(path)
    try:
        same = {"digest": spec.digest, "mean": [*spec.mean], "std": [*spec.std], "img_size": about["img_size"]}
        same["precision"] = about["precision"]
        if {key: content["backbone"].get(key) for key in same} != same:
            return {}
        return {name: _parse_result(result) for name, result in content["protocols"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{path} is damaged ({type(error).__name__}: {error}); remove it and run the same command again"
        ) from error


def _parse_result(content: Mapping[str, Any]) -> ProtocolResult:
    result = ProtocolResult(**content)
    for name, empty in vars(ProtocolResult("", "")).items():
        value = getattr(result, name)
        if type(value) is not type(empty):
            raise ValueError(f"{name} is {value!r:.40}")
    scores = [*result.summary.values(), *(value for row in result.rows.values() for value in row.values())]
    if any(isinstance(value, float) and not math.isfinite(value) for value in scores):
        raise ValueError("a score is not a number")
    texts = [*result.missing.values(), *result.failed.values(), *result.notes, *result.pictures]
    numbers = all(type(value) in (int, float) for value in result.summary.values())
    if not numbers or not all(isinstance(text, str) for text in texts):
        raise ValueError("values of another type")
    return result


def main_score(row: Mapping[str, Any]) -> float | None:
    """Return the first number of a row, which is the protocol's main score."""
    return next((value for value in row.values() if isinstance(value, (int, float))), None)


def table(name: str, result: ProtocolResult, near: list[dict[str, Any]]) -> list[str]:
    """Format a result as lines of Markdown: a row per data set and summary, published scores in the last columns."""
    columns = list(dict.fromkeys(column for row in result.rows.values() for column in row))
    shown = {*result.rows, *result.summary}
    reported = [target for target in near if shown & set(target.get(name, ()))]
    head = ["", *columns, *map(label, reported)]
    rows = [[title, *(_cell(row.get(column)) for column in columns)] for title, row in result.rows.items()]
    rows += [[f"**{title}**", _cell(value), *[""] * (len(columns) - 1)] for title, value in result.summary.items()]
    for row in rows:
        row += [_cell(target[name].get(row[0].strip("*"))) for target in reported]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]


def draw_report(
    name: str, results: Mapping[str, ProtocolResult], near: list[dict[str, Any]], path: Path
) -> Path | None:
    """Draw each protocol's main scores as bars and published ones as marks.

    Args:
        name: The backbone's name, for the title.
        results: Results by protocol.
        near: Published scores to mark.
        path: File to write.

    Returns:
        The file; None without scores.
    """
    scores = {
        protocol: {title: value for title, row in result.rows.items() if (value := main_score(row)) is not None}
        | result.summary
        for protocol, result in results.items()
    }
    scores = {protocol: values for protocol, values in scores.items() if values}
    if not scores:
        return None
    widths = [max(2, len(values)) for values in scores.values()]
    figure = Figure(figsize=(2.2 + 0.62 * sum(widths) + len(widths), 4.2), layout="constrained")
    axes = figure.subplots(1, len(scores), squeeze=False, gridspec_kw={"width_ratios": widths})[0]
    for axis, (protocol, values) in zip(axes, scores.items(), strict=True):
        names = list(values)
        axis.bar(range(len(names)), list(values.values()), color="#4477aa", width=0.6, label="this backbone")
        for mark, target in zip("_xDo^v*", [target for target in near if protocol in target], strict=False):
            known = [(i, target[protocol][title]) for i, title in enumerate(names) if title in target[protocol]]
            if known:
                axis.scatter(*zip(*known, strict=True), marker=mark, s=60, zorder=3, label=label(target))
        for i, value in enumerate(values.values()):
            axis.text(i, value, f"{value:.1f}", ha="center", va="bottom", fontsize=8)
        axis.set_xticks(range(len(names)), names, rotation=40, ha="right")
        axis.set(ylabel=results[protocol].unit, xlim=(-0.7, len(names) - 0.3), ylim=(0, 105))
        axis.set_title(results[protocol].title, fontsize=9)
        if len(axis.get_legend_handles_labels()[0]) > 1:
            axis.legend(fontsize=7, loc="lower right")
    figure.suptitle(name, fontsize=10)
    return save_picture(figure, path)


def _section(name: str, result: ProtocolResult, near: list[dict[str, Any]]) -> list[str]:
    lines = [f"## {result.title} ({result.unit})", ""]
    if result.rows:
        lines += [*table(name, result, near), ""]
    remarks = [f"- {note}" for note in result.notes]
    remarks += [f"- failed: {title}: {_one_line(reason)}" for title, reason in result.failed.items()]
    remarks += [f"- not on disk: {title}: {_one_line(where)}" for title, where in result.missing.items()]
    lines += [*remarks, ""] if remarks else []
    for picture in result.pictures:
        lines += [f"![{result.title}]({picture})", ""]
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
