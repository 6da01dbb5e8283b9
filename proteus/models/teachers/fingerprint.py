"""What a teacher's tokens depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN as MEAN
from timm.data import IMAGENET_DEFAULT_STD as STD

from proteus.utils.digest import weights_digest

# Keys that only locate the weights or change the speed; `weights` and `dtype` cover their effect.
_NOT_ARCHITECTURE = {"checkpoint", "init_cfg", "type", "grad_checkpointing"}
_NOT_TEACHER = {"type", "backbone", "mean", "std", "img_size", "dtype", "compile", "shard", "classifier"}


def teacher_fingerprint(teacher: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a teacher so that two of the same description give the same tokens, up to rounding.

    Args:
        teacher: The teacher, on the device where it runs: that may decide its dtype.
        config: What it was built from.

    Returns:
        ``weights``, a digest of the tensors as they are in memory; ``architecture``, ``img_size`` in pixels (None: as
        the images come), ``mean``, ``std``, ``dtype``, and ``options`` with what else the config has.
    """
    backbone = config.get("backbone", {})
    dtype = str(next(teacher.backbone.parameters()).dtype).removeprefix("torch.")
    return {
        "weights": weights_digest(teacher.backbone.state_dict()),
        "architecture": {
            "type": str(backbone.get("type")).removeprefix("proteus."),
            **{key: value for key, value in backbone.items() if key not in _NOT_ARCHITECTURE},
        },
        "img_size": teacher.img_size,
        "mean": list(config.get("mean", MEAN)),
        "std": list(config.get("std", STD)),
        "dtype": dtype,
        "options": {key: value for key, value in config.items() if key not in _NOT_TEACHER},
    }
