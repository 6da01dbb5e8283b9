"""What a training checkpoint of ours says about the images that its student was trained with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from proteus.checkpoints.description import Description, check_description
from proteus.checkpoints.load import open_weights

_PREPROCESSOR, _SIZE = "model.data_preprocessor", "model.student.img_size"
_LONGEST = 1 << 20


def read_statistics(path: Path) -> Description | None:
    """Read statistics and size of images from the settings that ``ResumeSettingsHook`` stores in a checkpoint.

    Args:
        path: A weight file of any kind.

    Returns:
        A description with these alone; None for anything but a checkpoint of a distillation.

    Raises:
        CheckpointError: The file cannot be read, or one of them is not valid.
    """
    if path.suffix.lower() in (".safetensors", ".onnx"):
        return None
    content = open_weights(path, "meta")
    about = content.get("meta") if isinstance(content, Mapping) else None
    text = about.get("settings") if isinstance(about, Mapping) else None
    if not isinstance(text, str) or len(text) > _LONGEST:
        return None
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):
        return None
    # A pure Python config has classes: "<class 'proteus.models.distillers.distiller.Distiller'>".
    if not isinstance(settings, dict) or not str(settings.get("model.type")).rstrip("'>").endswith("Distiller"):
        return None
    usual = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    found = {key: settings.get(f"{_PREPROCESSOR}.{key}", value) for key, value in usual.items()}
    size = {"img_size": settings[_SIZE]} if type(settings.get(_SIZE)) is int else {}
    return check_description(found | size, f"{path}: {_PREPROCESSOR} or {_SIZE} in its settings")
