"""What a teacher's tokens depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN as MEAN
from timm.data import IMAGENET_DEFAULT_STD as STD
from torch import nn

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
        "weights": weights_digest(teacher.backbone),
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


def weights_digest(module: nn.Module) -> str:
    """SHA-256 of the names, shapes, dtypes and bytes of a module's weights."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        # As numbers of two or one bytes: NumPy has no bfloat16.
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
