"""The floating-point operations of a training step, counted without running it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from proteus.models.distillers import Distiller, MultiStudentDistiller
from proteus.registry import MODELS

# Images that are enough to tell the share of masked ones.
_MOST_IMAGES = 32


def distillation_flops(config: Mapping[str, Any], batch: Mapping[str, Any]) -> float | None:
    """Count one image's share of a distillation step, forward and backward.

    The model is built once more, on the meta device and without weights, which takes a second and no memory.

    Args:
        config: Config of the model.
        batch: A collated batch; only its shapes count. Where it brings the teacher's tokens, no teacher is run.

    Returns:
        FLOPs, two a multiply-add; what activation checkpointing computes a second time is included. ``None`` for a
        model that does not distil.
    """
    config = _without_weights(copy.deepcopy(dict(config)))
    with torch.device("meta"):
        model = MODELS.build(config)
    if not isinstance(model, (Distiller, MultiStudentDistiller)):
        return None
    inputs = _shapes_of(batch, getattr(model, "needs_labels", True))
    with FlopCounterMode(display=False) as counter:
        total = sum(model(**inputs, mode="loss").values())
        assert isinstance(total, Tensor)
        total.backward()
    return counter.get_total_flops() / len(inputs["images"])


def _shapes_of(batch: Mapping[str, Any], needs_labels: bool) -> dict[str, Any]:
    """A shorter batch on the meta device with the same share of masked images."""
    images, masks = batch["images"], batch.get("masks")
    count = min(len(images), _MOST_IMAGES)
    inputs: dict[str, Any] = {"images": torch.empty(count, *images.shape[1:], device="meta")}
    for name in ("teacher_cls", "teacher_patches"):
        if batch.get(name) is not None:
            inputs[name] = torch.empty(count, *batch[name].shape[1:], device="meta")
    if needs_labels and batch.get("labels") is not None:
        labels = batch["labels"]
        inputs["labels"] = torch.empty(count, *labels.shape[1:], dtype=labels.dtype, device="meta")
    if masks is not None:
        scale = count / len(images)
        masked, chosen = max(round(len(masks) * scale), 1), round(len(batch["mask_indices"]) * scale)
        inputs["masks"] = torch.empty(masked, masks.shape[1], dtype=torch.bool, device="meta")
        inputs["mask_indices"] = torch.empty(chosen, dtype=torch.long, device="meta")
    return inputs


def _without_weights(config: Any) -> Any:
    if isinstance(config, dict):
        for key in ("checkpoint", "init_cfg"):
            if config.get(key) is not None:
                config[key] = None
        for value in config.values():
            _without_weights(value)
    return config
