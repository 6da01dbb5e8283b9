"""Facts for the model card, kept in ``facts.json`` for later exports into the same folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from proteus.structures import DataError
from proteus.utils.atomic import read_json, write_json


class CardFacts(TypedDict, total=False):
    """What the card says about a model; a fact that is unknown is left out.

    Attributes:
        title: Heading of the card.
        teacher: Name of the teacher, such as ``DINOv2 ViT-B/14 (Meta)``.
        teacher_hub_id: Its repository on the Hugging Face hub, such as ``facebook/dinov2-base``.
        teacher_licence: Its licence, such as ``CC-BY-NC 4.0``.
        licence: Licence that was chosen for this model.
        data: Name of the training images.
        images: Number of training images.
        objectives: What the student was trained to match.
        training: Further rows about the training, such as ``{"epochs": 100, "batch size": 1024}``.
        metrics: Measured results, such as ``{"ImageNet-1k, linear probe, top-1 (%)": 71.2}``.
        command: Command that made the model.
        weights: ``plain`` for the trained weights, ``ema`` for their exponential moving average.
        ema_metrics: Measured results of the average in ``ema/``.
        versions: Version by package.
        notes: Further sentences.
    """

    title: str
    teacher: str
    teacher_hub_id: str
    teacher_licence: str
    licence: str
    data: str
    images: int
    objectives: Sequence[str]
    training: Mapping[str, Any]
    metrics: Mapping[str, Any]
    command: str
    weights: str
    ema_metrics: Mapping[str, Any]
    versions: Mapping[str, str]
    notes: Sequence[str]


FILE = "facts.json"


def check_facts(facts: Mapping[str, Any]) -> None:
    """Check the names of facts.

    Raises:
        ValueError: A fact is unknown.
    """
    unknown = sorted(set(facts) - set(CardFacts.__annotations__))
    if unknown:
        raise ValueError(f"facts[{unknown[0]!r}]: choose from: {', '.join(CardFacts.__annotations__)}")


def read_facts(folder: Path) -> dict[str, Any]:
    """Read what earlier exports wrote about a folder; empty for a new folder.

    Raises:
        DataError: The file is damaged.
    """
    try:
        content = read_json(folder / FILE, "remove it, or export with --overwrite")
    except FileNotFoundError:
        return {}
    kinds = {"weights": str, "facts": dict, "written": dict, "skipped": dict, "differences": dict, "benchmark": dict}
    if not isinstance(content, dict) or any(type(content.get(key, kind())) is not kind for key, kind in kinds.items()):
        raise DataError(f"{folder / FILE} is not a file that Proteus wrote; remove it, or export with --overwrite")
    return content


def write_facts(folder: Path, content: Mapping[str, Any]) -> None:
    """Write what is known about a folder."""
    write_json(folder / FILE, content, indent=2)
