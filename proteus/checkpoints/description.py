"""The description in a weight file, read as untrusted data and checked.

Files that Proteus exports have a description as JSON under ``proteus`` in the header of the ``.safetensors`` file.
Anybody can write such a header, so nothing in it is trusted: the architecture must be a name in timm or in the model
registry of mmpretrain or mmseg, its arguments must pass :mod:`proteus.checkpoints.description_rules`, and statistics
must be numbers. :func:`read_description` is the only reader.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open

from proteus.checkpoints.description_rules import LARGEST_SIDE, check_arguments
from proteus.checkpoints.errors import CheckpointError, DamagedFileError, first_sentence, shown
from proteus.checkpoints.paths import check_file
from proteus.utils.text import printable

GUESTS = ("mmpretrain", "mmseg")
"""Toolboxes from which an architecture may come, as in ``mmpretrain.ResNet``."""

_NAME = re.compile(r"[A-Za-z0-9_]{1,100}(\.[A-Za-z0-9_]{1,100})?")
_LONGEST = 1_000_000


@dataclass(frozen=True)
class Description:
    """Description of a weight file.

    Attributes:
        architecture: Name in timm, or ``mmpretrain.NAME`` or ``mmseg.NAME``; None if unknown.
        arguments: Arguments of the architecture, checked by name, type and range.
        mean: Channel means that images are normalised with, for images in [0, 1]; None if unknown.
        std: Channel standard deviations, likewise.
        teacher: Name of the teacher, free text without control characters; empty if unknown.
        iterations: Training steps; None if unknown.
        img_size: Side in pixels of the images that it was trained with, if ``arguments`` does not have it (CNNs); None
            if unknown.
        weights: ``plain`` for trained weights, ``ema`` for their exponential moving average; empty if unknown.
        average_of: Digest of the trained weights that these are the average of; empty if unknown.
        converted_to: Naming scheme of the weights, if they were converted.
        converted_from: Source file of the conversion.
    """

    architecture: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    teacher: str = ""
    iterations: int | None = None
    img_size: int | None = None
    weights: str = ""
    average_of: str = ""
    converted_to: str = ""
    converted_from: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the known fields, as :func:`~proteus.checkpoints.export_backbone` takes them."""
        known = {key: value for key, value in vars(self).items() if value not in (None, "", {})}
        return known if self.architecture is None else {"arguments": {}, **known}


def read_description(path: Path) -> Description | None:
    """Read the description of a weight file; None for a file without one.

    Raises:
        CheckpointError: The file cannot be read, or its description is not valid; the message names the file and the
            field.
    """
    if path.suffix.lower() != ".safetensors":
        return None
    check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except Exception as error:  # safetensors raises a type that it does not export
        raise DamagedFileError(f"{path} cannot be read as weights ({first_sentence(error)})") from error
    text = metadata.get("proteus")
    if text is None:
        return None
    where = f"{path}: its description (metadata 'proteus')"
    if len(text) > _LONGEST:
        raise CheckpointError(f"{where} has {len(text):,} characters; at most {_LONGEST:,} are read")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} is not JSON ({error}); {_REMEDY}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{where} is a JSON {type(content).__name__}, not an object; {_REMEDY}")
    return check_description(content, where)


def check_description(content: Mapping[str, Any], where: str) -> Description:
    """Check a description.

    Args:
        content: The parsed JSON.
        where: File and place in it, for messages.

    Raises:
        CheckpointError: A field is missing or has another type or range, or names anything but a known architecture.
    """
    architecture = content.get("architecture")
    # Earlier versions of convert_checkpoint.py wrote a title there, such as "DINOv2 ViT-S/14".
    if "converted_to" in content and "arguments" not in content:
        architecture = None
    arguments: dict[str, Any] = {}
    if architecture is not None:
        architecture = _architecture(architecture, where)
        for key in ("arguments", "mean", "std"):
            if key not in content:
                raise CheckpointError(f"{where} has 'architecture' but no {key!r}; {_REMEDY}")
        arguments = check_arguments(content["arguments"], where)
    iterations = content.get("iterations")
    if iterations is not None and (type(iterations) is not int or not 0 <= iterations < 2**63):
        raise CheckpointError(f"{where}: iterations is {shown(iterations)}; expected a whole number")
    img_size = content.get("img_size")
    if img_size is not None and (type(img_size) is not int or not 1 <= img_size <= LARGEST_SIDE):
        raise CheckpointError(f"{where}: img_size is {shown(img_size)}; expected an integer from 1 to {LARGEST_SIDE}")
    weights = content.get("weights", "")
    if weights not in ("", "plain", "ema"):
        raise CheckpointError(f"{where}: weights is {shown(weights)}; expected 'plain' or 'ema'")
    texts = {key: _text(content, key, where) for key in ("teacher", "average_of", "converted_to", "converted_from")}
    mean, std = _statistics(content, "mean", where), _statistics(content, "std", where)
    if std is not None and min(std) <= 0:
        raise CheckpointError(f"{where}: std is {shown(std)}; expected three numbers above 0")
    return Description(
        architecture, arguments, mean, std, iterations=iterations, img_size=img_size, weights=weights, **texts
    )


_REMEDY = "export the weights again, or take the description out and give --arch"


def _architecture(name: Any, where: str) -> str:
    from timm.models import is_model  # slow to import, and most files have no description

    if isinstance(name, str) and _NAME.fullmatch(name):
        stem, _, rest = name.partition(".")
        if stem in GUESTS and rest:
            return name
        if is_model(stem):  # the tag after it names pretrained weights, which are not fetched
            return stem
    raise CheckpointError(
        f"{where}: architecture is {shown(name)}; expected a model of timm's, or mmpretrain.NAME or mmseg.NAME"
    )


def _statistics(content: Mapping[str, Any], key: str, where: str) -> tuple[float, ...] | None:
    value = content.get(key)
    if value is None and key not in content:
        return None
    if (
        not isinstance(value, (list, tuple))
        or len(value) != 3
        or not all(type(number) in (int, float) and abs(number) < 1e6 and math.isfinite(number) for number in value)
    ):
        raise CheckpointError(f"{where}: {key} is {shown(value)}; expected three numbers")
    return tuple(map(float, value))


def _text(content: Mapping[str, Any], key: str, where: str) -> str:
    value = content.get(key, "")
    if not isinstance(value, str):
        raise CheckpointError(f"{where}: {key} is {shown(value)}; expected text")
    return printable(value, 500)
