"""``README.md``: the model card, with the front matter that the Hugging Face hub reads."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from proteus.checkpoints.detect_arch import detect_arch
from proteus.exporters.card_code import code_blocks
from proteus.exporters.licences import consequence, hub_licence
from proteus.exporters.model import ExportModel
from proteus.utils.atomic import write_text
from proteus.utils.text import printable
from proteus.version import __version__

_FILES = {
    "timm": ("model.safetensors, config.json", "timm, and transformers through timm"),
    "hf": ("hf/", "transformers"),
    "openmmlab": ("openmmlab/", "mmpretrain, mmseg"),
    "onnx": ("model.onnx", "ONNX Runtime"),
    "program": ("model.pt2", "torch.export"),
}
_PACKAGES = ("torch", "timm", "onnx", "onnxruntime")


def write_card(model: ExportModel, folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``README.md``.

    Args:
        model: The model.
        folder: The model folder.
        content: What ``facts.json`` holds: ``facts`` (:class:`~proteus.exporters.facts.CardFacts`), ``written``,
            ``skipped``, ``differences``, ``ema``, ``heads`` and ``benchmark``. What is missing is left out of the card.

    Raises:
        FullDiskError: The disk is full.
    """
    facts = content.get("facts", {})
    sections = [
        _front_matter(model, facts),
        f"# {_title(model, facts)}",
        _summary(model, facts),
        *_section("Weights and metrics", _metrics(facts, content)),
        *_section("Metrics of the average in ema/", _table(("metric", "value"), facts.get("ema_metrics"))),
        *_section("Files", _files(content)),
        *_section("Use", _usage(model, content)),
        *_section("Latency", _latency(content.get("benchmark"))),
        *_section("Licence", _licence(model, facts)),
        *_section("How it was made", _provenance(model, facts)),
    ]
    write_text(folder / "README.md", "\n\n".join(sections) + "\n")


def _title(model: ExportModel, facts: Mapping[str, Any]) -> str:
    if facts.get("title"):
        return printable(facts["title"])
    teacher = facts.get("teacher") or model.teacher
    return printable(f"{_short_name(model)} distilled from {teacher}" if teacher else model.name)


def _short_name(model: ExportModel) -> str:
    shape = detect_arch(model.state()) if model.is_timm else None
    return model.architecture if shape is None else shape.title.removeprefix(f"{shape.family} ")


def _front_matter(model: ExportModel, facts: Mapping[str, Any]) -> str:
    licence = _licence_of_weights(model, facts)
    about: dict[str, Any] = {"library_name": "timm", "pipeline_tag": "image-feature-extraction"}
    about["tags"] = ["image-feature-extraction", "vision", "timm", "proteus"]
    if facts.get("teacher") or model.teacher:
        about["tags"].append("knowledge-distillation")
    if licence:
        about = {"license": hub_licence(licence), **about}
        if about["license"] == "other":
            about["license_name"] = "-".join(licence.lower().split())
    if facts.get("teacher_hub_id"):
        about["base_model"] = facts["teacher_hub_id"]
    if not model.is_timm:
        about["library_name"] = "mmpretrain"
        about["tags"].remove("timm")
    return f"---\n{yaml.safe_dump(about, sort_keys=False)}---"


def _licence_of_weights(model: ExportModel, facts: Mapping[str, Any]) -> str:
    # Without a choice of its author, a student is published under the terms of its teacher.
    return str(facts.get("licence") or model.licence or facts.get("teacher_licence") or "")


def _summary(model: ExportModel, facts: Mapping[str, Any]) -> str:
    images = model.images(1)
    features = model.features(images)
    teacher = facts.get("teacher") or model.teacher
    given = {key: value for key, value in model.arguments.items() if value or key == "init_values"}
    arguments = ", ".join(f"`{key}={value!r}`" for key, value in given.items())
    rows = {
        "architecture": f"`{model.architecture}` with {arguments}" if arguments else f"`{model.architecture}`",
        "parameters": f"{sum(value.numel() for value in model.backbone.parameters()) / 1e6:.1f} M",
        "images": f"{model.img_size} x {model.img_size} px, mean {list(model.mean)}, std {list(model.std)}",
        "features": f"`cls` of {features.cls.shape[-1]} values, `patches` of {features.grid[0]} x {features.grid[1]} "
        f"tokens of {features.patches.shape[-1]} values",
    }
    optional = {
        "teacher": teacher,
        "training images": _data(facts),
        "objectives": ", ".join(map(str, facts.get("objectives", ()))),
        "iterations": f"{model.iterations:,}" if model.iterations else "",
        **facts.get("training", {}),
    }
    rows |= {key: value for key, value in optional.items() if value not in ("", None)}
    kind = "A vision backbone without a classifier: it turns an image into a vector and one vector for each patch."
    return "\n".join([kind, "", *_table(("", ""), rows), *(f"\n{_plain(note)}" for note in facts.get("notes", ()))])


def _data(facts: Mapping[str, Any]) -> str:
    count = f"{facts['images']:,} images" if facts.get("images") else ""
    return ", ".join(filter(None, [str(facts.get("data", "")), count]))


def _metrics(facts: Mapping[str, Any], content: Mapping[str, Any]) -> Iterator[str]:
    sentence = _weights_sentence(facts, content)
    if sentence:
        yield f"{sentence}\n"
    yield from _table(("metric", "value"), facts.get("metrics"))


def _weights_sentence(facts: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    kind = {"plain": "the trained weights", "ema": "the exponential moving average of the trained weights (EMA)"}
    chosen = kind.get(str(facts.get("weights", "")), "")
    if content.get("ema"):
        return f"`model.safetensors` and every other format hold {kind['plain']}; `ema/` holds {kind['ema']}."
    return f"All files hold {chosen}." if chosen else ""


def _files(content: Mapping[str, Any]) -> Iterator[str]:
    written, differences = content.get("written", {}), content.get("differences", {})
    yield "| file | opened by | largest difference of a feature from torch |"
    yield "|---|---|---|"
    for name, (files, reader) in _FILES.items():
        if name in written:
            difference = differences.get(name)
            shown = "not measured" if difference is None else f"{difference:.0e}" if difference else "0"
            detail = f" ({written[name]})" if written[name] else ""
            yield f"| {files} | {reader}{detail} | {shown} |"
    if content.get("ema"):
        yield '| ema/ | timm (`"local-dir:ema"`) | |'
    if content.get("heads"):
        yield "| heads.safetensors | Proteus (`load_backbone(folder, mapped=True)`: the teacher's space) | |"
    for name, reason in content.get("skipped", {}).items():
        yield f"\nNot written: {name}. {_plain(reason[:1].upper() + reason[1:])}."


def _usage(model: ExportModel, content: Mapping[str, Any]) -> Iterator[str]:
    yield "Run these blocks in this folder. Each gives `cls` `(B, D)` and `patches` `(B, N, D)`."
    for heading, code in code_blocks(model, dict(content.get("written", {}))):
        yield f"\n{heading}:\n\n```python\n{code}\n```"


def _latency(benchmark: Mapping[str, Any] | None) -> Iterator[str]:
    if benchmark:
        yield f"{_plain(benchmark['device'])}; medians of alternating repeats."
        yield ""
        yield from benchmark["table"]


def _licence(model: ExportModel, facts: Mapping[str, Any]) -> Iterator[str]:
    own = facts.get("licence") or model.licence
    if own:
        yield f"These weights are under {_plain(own)}."
    teacher = facts.get("teacher_licence")
    if teacher:
        yield f"The teacher's licence is {_plain(teacher)}. {consequence(teacher)}"
        if not own:
            yield "No licence was chosen for this student; the front matter of this card names the teacher's."


def _provenance(model: ExportModel, facts: Mapping[str, Any]) -> Iterator[str]:
    if facts.get("command"):
        yield f"```bash\n{facts['command']}\n```\n"
    versions = {
        "proteus-toolbox": __version__,
        "Python": platform.python_version(),
        **_installed(),
        **facts.get("versions", {}),
    }
    yield f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}."


def _installed() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _section(title: str, lines: Iterable[str]) -> Sequence[str]:
    text = "\n".join(lines).strip("\n")
    return [f"## {title}\n\n{text}"] if text else []


def _table(head: tuple[str, str], rows: Mapping[str, Any] | None) -> list[str]:
    if not rows:
        return []
    shown = [f"| {_plain(key)} | {_number(value)} |" for key, value in rows.items()]
    return [f"| {head[0]} | {head[1]} |", "|---|---|", *shown]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _plain(value)


def _plain(value: Any) -> str:
    """Return text on one line that does not end a table cell."""
    return printable(str(value)).replace("|", "\\|")
