"""Model folders and repositories of the hub: ``config.json`` and ``model.safetensors``, read as untrusted data.

The layout is timm's (``timm.create_model("local-dir:FOLDER")``). A folder of ``transformers`` is read as well, if its
weights are those of a ViT that can be recognised. Nothing in ``config.json`` is trusted: the architecture, its
arguments and the statistics pass the checks of :mod:`proteus.checkpoints.description`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from proteus.checkpoints import CheckpointError, Description
from proteus.checkpoints.description import check_description
from proteus.checkpoints.errors import shown
from proteus.checkpoints.hub_cache import cached_file, download_file
from proteus.checkpoints.paths import MODEL_FILES, check_file
from proteus.models.backbones.weight_file import WeightFile, read_weight_file
from proteus.models.zoo.timm_record import licence_name
from proteus.utils.text import printable

INTERPOLATIONS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""How images may be resized, in the order of Pillow's numbers, which ``transformers`` writes."""
CROP_MODES = ("center", "squash", "border")
"""How images may be fitted to a square, by timm's names; see :class:`InputFacts`."""
_LARGEST = 16 << 20  # timm writes the names of all classes into config.json
_LARGEST_SIDE = 4096
_LARGEST_CROP = 2


class InputFacts(NamedTuple):
    """How images are resized and cropped; the defaults are those of a model that does not say it.

    Attributes:
        interpolation: One of :data:`INTERPOLATIONS`.
        crop_pct: Side of the centre crop as a fraction of the side that the image is resized to.
        crop_mode: What is resized to that side: ``center``, the short side; ``squash``, both sides, whatever the aspect
            ratio; ``border``, the long side, with borders of the mean colour along it.
    """

    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    crop_mode: str = "center"


def read_model_folder(folder: Path, img_size: int | None = None) -> tuple[WeightFile, str]:
    """Find out what builds the model in a folder.

    Args:
        folder: The folder.
        img_size: Side of the images in pixels; the model's own by default.

    Returns:
        The weight file with its facts, and the licence that ``config.json`` names; empty if it names none.

    Raises:
        CheckpointError: The folder holds no model, or ``config.json`` does not describe it.
    """
    weights = next((folder / name for name in MODEL_FILES if (folder / name).is_file()), None)
    if weights is None or not (folder / "config.json").is_file():
        missing = "config.json" if weights is not None else MODEL_FILES[0]
        raise CheckpointError(f"{folder} is a folder without a model: it has no {missing}{_hint(folder)}")
    content = _read_json(folder / "config.json")
    if "architecture" not in content:
        statistics = _transformers_statistics(folder)
        return read_weight_file(str(weights), img_size=img_size, description=statistics), ""
    pretrained = _pretrained(content, folder)
    description, size = _description(content, pretrained, str(folder / "config.json"))
    licence = pretrained.get("license")
    found = read_weight_file(str(weights), img_size=img_size or size, description=description)
    return found, licence_name(printable(licence, 100)) if isinstance(licence, str) else ""


def read_input_facts(folder: Path) -> InputFacts:
    """Read how images for the model in a folder are resized and cropped.

    Args:
        folder: A folder with ``config.json``.

    Raises:
        CheckpointError: ``config.json`` or ``preprocessor_config.json`` cannot be read, or has another value.
    """
    content = _read_json(folder / "config.json")
    if "architecture" not in content:
        return _transformers_input_facts(folder)
    return _checked_input(_pretrained(content, folder), folder / "config.json")


def hub_folder(name: str, download: bool = False) -> Path:
    """Return the folder of a repository of the Hugging Face hub in the local cache.

    Args:
        name: ``hf-hub:OWNER/NAME``.
        download: Download its ``config.json`` and weights if they are not in the cache.

    Raises:
        CheckpointError: The name is not ``hf-hub:OWNER/NAME``, or the files are neither in the cache nor downloaded.
    """
    repository = name.removeprefix("hf-hub:")
    if repository.count("/") != 1:
        raise CheckpointError(f"{name}: write hf-hub:OWNER/NAME")
    config = cached_file(repository, "config.json")
    weights = next(filter(None, (cached_file(repository, file) for file in MODEL_FILES)), None)
    if download and (config is None or weights is None):
        config, weights = download_file(repository, "config.json"), download_file(repository, MODEL_FILES[0])
    if config is None or weights is None:
        raise CheckpointError(
            f"{name}: {'config.json' if config is None else MODEL_FILES[0]} of https://huggingface.co/{repository} is "
            "not in the Hugging Face cache of this machine; add --download (download=True) to fetch it, or name a "
            "folder with both files"
        )
    return weights.parent


def _description(content: Mapping[str, Any], pretrained: Mapping[str, Any], where: str) -> tuple[Description, int]:
    """Check what timm's ``config.json`` says, and return the description and the size of images."""
    arguments = content.get("model_args", {})
    if isinstance(arguments, Mapping):  # the classifier is not built
        arguments = {key: value for key, value in arguments.items() if key != "num_classes"}
    fields = {key: pretrained[key] for key in ("mean", "std") if key in pretrained}
    description = check_description({"architecture": content["architecture"], "arguments": arguments, **fields}, where)
    size = description.arguments.get("img_size", pretrained.get("input_size", (3, 224, 224)))
    side = max(size) if isinstance(size, (tuple, list)) and all(type(one) is int for one in size) and size else size
    if type(side) is not int or not 1 <= side <= _LARGEST_SIDE:
        raise CheckpointError(f"{where}: input_size is {printable(str(size), 60)}; expected [3, height, width]")
    return description, side


def _pretrained(content: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    pretrained = content.get("pretrained_cfg", content)
    if not isinstance(pretrained, Mapping):
        raise CheckpointError(f"{folder / 'config.json'}: pretrained_cfg is not an object; export the model again")
    return pretrained


def _checked_input(content: Mapping[str, Any], path: Path) -> InputFacts:
    facts = InputFacts(**{key: content[key] for key in InputFacts._fields if content.get(key) is not None})
    for key, allowed in (("interpolation", INTERPOLATIONS), ("crop_mode", CROP_MODES)):
        value = getattr(facts, key)
        if value not in allowed:
            raise CheckpointError(f"{path}: {key} is {shown(value)}; expected one of {', '.join(allowed)}")
    crop_pct = facts.crop_pct
    if type(crop_pct) not in (int, float) or not 0 < crop_pct <= _LARGEST_CROP:
        raise CheckpointError(f"{path}: crop_pct is {shown(crop_pct)}; expected a number above 0, such as 0.875")
    return facts._replace(crop_pct=float(crop_pct))


def _transformers_input_facts(folder: Path) -> InputFacts:
    """Read interpolation and crop from the ``preprocessor_config.json`` of ``transformers``."""
    path = folder / "preprocessor_config.json"
    content = _read_json(path) if path.is_file() else {}
    facts: dict[str, Any] = {}
    number = content.get("resample")
    if type(number) is int and 0 <= number < len(INTERPOLATIONS):
        facts["interpolation"] = INTERPOLATIONS[number]
    size = content.get("size")
    if isinstance(size, Mapping) and "height" in size and "shortest_edge" not in size:
        facts["crop_mode"] = "squash"
    edge, crop = _side(size), _side(content.get("crop_size"))
    if edge and not content.get("do_center_crop", crop):
        facts["crop_pct"] = 1.0
    elif edge and crop:
        ratio = crop / edge
        facts["crop_pct"] = ratio if math.floor(crop / ratio) == edge else math.nextafter(ratio, 0)  # rounded up
    return _checked_input(facts, path)


def _side(size: Any) -> int | None:
    """Return the short side of a size of ``transformers``: a number, or an object."""
    if isinstance(size, Mapping):
        size = size.get("shortest_edge", size.get("height"))
    return size if type(size) is int and 1 <= size <= _LARGEST_SIDE else None


def _transformers_statistics(folder: Path) -> Description | None:
    """Read mean and standard deviation from the ``preprocessor_config.json`` of ``transformers``."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return None
    content = _read_json(path)
    fields = {key: content[f"image_{key}"] for key in ("mean", "std") if f"image_{key}" in content}
    return check_description(fields, str(path))


def _read_json(path: Path) -> dict[str, Any]:
    check_file(path, "description")
    if path.stat().st_size > _LARGEST:
        raise CheckpointError(f"{path} has {path.stat().st_size:,} bytes; at most {_LARGEST:,} are read")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}); export the model again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is a JSON {type(content).__name__}, not an object; export the model again")
    return content


def _hint(folder: Path) -> str:
    files = sorted(path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".pth", ".pt"))
    return f"; name a weight file in it, such as {folder / files[0]}" if files else ""
