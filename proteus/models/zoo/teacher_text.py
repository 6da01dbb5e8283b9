"""Whether the description of a run's teacher, a text that configs inherit from their bases, fits the model's config."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from proteus.models.zoo.known import known_teachers
from proteus.models.zoo.record import ModelRecord


def contradiction(text: str, model: Mapping[str, Any]) -> str:
    """Return what is wrong in a description of the teachers of a model; empty if nothing is, or nothing is known.

    Released weights are known by the names of their files, and models by their titles. Neither distinguishes image
    sizes and registers of one model, which have the same licence.

    Args:
        text: The description.
        model: Config of the model.
    """
    weights = dict(_weights(model))
    if not text or not (_teachers(model) or weights):
        return ""
    known = {key: record for key, file in weights.items() if (record := _released(file)) is not None}
    read, named = {_name(record) for record in known.values()}, _named(text)
    missing, absent = sorted(read - named), sorted(named - read)
    if not missing and not absent:
        return ""
    faults = [f"does not name {', '.join(missing)}"] if missing else []
    faults += [f"names {', '.join(absent)}, but no teacher reads those released weights"] if absent else []
    listed = ", ".join(f"{key}={file!r}" for key, file in weights.items()) or "no file"
    remedy = "write what the teachers are"
    if weights and len(known) == len(weights):
        remedy = f"write {' and '.join(dict.fromkeys(map(_described, known.values())))!r}"
    return f"the text {' and '.join(faults)} (they read {listed}); {remedy}, since the exported student says it"


def _teachers(model: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The configs of the teachers by their keys."""
    several = model.get("teachers")
    pairs = several.items() if isinstance(several, Mapping) else ()
    found = {f"model.teachers.{name}.teacher": pair["teacher"] for name, pair in pairs if pair and "teacher" in pair}
    found |= {"model.teacher": model["teacher"]} if "teacher" in model else {}
    return {key: config for key, config in found.items() if isinstance(config, Mapping)}


def _weights(model: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, config in _teachers(model).items():
        # A classifier's file belongs to the backbone.
        yield from _checkpoints(key, {part: value for part, value in config.items() if part != "classifier"})


def _checkpoints(key: str, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for part, value in config.items():
        if part == "checkpoint" and value is not None:
            yield f"{key}.{part}", str(value)
        elif isinstance(value, Mapping):
            yield from _checkpoints(f"{key}.{part}", value)


def _released(file: str) -> ModelRecord | None:
    name = PurePath(file.partition("#")[0]).name
    records = known_teachers().values()
    return next(
        (one for one in records if name in one.files or (one.weights and name == PurePath(one.weights).name)), None
    )


def _name(record: ModelRecord) -> str:
    """``DINOv2 ViT-S/14`` of ``DINOv2 ViT-S/14, 4 registers (Meta)``, ``SigLIP2 ViT-L/16`` of one at 256 px."""
    return re.split(r" \(|, | at ", record.title, maxsplit=1)[0]


def _described(record: ModelRecord) -> str:
    if record.title.endswith(")"):
        return f"{record.title[:-1]}, {record.licence})"
    return f"{record.title} ({record.licence})"


def _named(text: str) -> set[str]:
    """The names of known models in a text; not those that are part of a longer one, as of ``DFN CLIP ViT-B/16``."""
    names = sorted({_name(record) for record in known_teachers().values()}, key=len, reverse=True)
    pattern = "|".join(map(re.escape, names))
    return set(re.findall(rf"(?<![\w-])(?:{pattern})(?![\w+])", text))
