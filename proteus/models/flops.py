"""FLOPs of a distillation step, counted on the meta device."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from proteus.models.distillers.building import without_weights
from proteus.registry import MODELS
from proteus.utils.meta_run import Known, MetaRun

# Enough images for the share of masked ones.
_MAX_IMAGES = 32


def distillation_flops(config: Mapping[str, Any], batch: Mapping[str, Any]) -> float | None:
    """Count the FLOPs per image of a distillation step.

    Builds the model again on the meta device without weights, which takes a second and no memory.

    Args:
        config: Config of the model.
        batch: A collated batch, for its shapes. If it has the teacher's tokens, the teacher is not run.

    Returns:
        FLOPs of forward and backward (1 MAC = 2 FLOPs), including recomputation by activation checkpointing; None for
        other models.
    """
    config = without_weights(config)
    with torch.device("meta"), MetaRun():
        model = MODELS.build(config)
    if not hasattr(model, "distillers"):
        return None
    return step_flops(model, _shapes_of(batch, getattr(model, "needs_labels", True), model.data_preprocessor))


def step_flops(
    model: Any,
    inputs: Mapping[str, Any],
    forward_context: AbstractContextManager[Any] | None = None,
    known: Known | None = None,
) -> float:
    """Count the FLOPs per image of forward and backward.

    Args:
        model: A model on the meta device.
        inputs: Arguments of its ``forward``.
        forward_context: Context for the forward pass.
        known: See :class:`~proteus.utils.meta_run.MetaRun`.
    """
    with MetaRun(known) as run:
        with forward_context or nullcontext():
            total = sum(model(**inputs, mode="loss").values())
        assert isinstance(total, Tensor)
        total.backward()
    return run.flops / len(inputs["inputs"])


def _shapes_of(batch: Mapping[str, Any], needs_labels: bool, preprocessor: Any) -> dict[str, Any]:
    """Return a shorter batch on the meta device with the same share of masked images, as views if they are shifted."""
    images, masks = batch["inputs"], batch.get("masks")
    count = min(len(images), _MAX_IMAGES)
    shift = getattr(preprocessor, "shift", 0)
    patch = preprocessor.patch_size if shift else 1
    height, width = (side - shift * patch for side in images.shape[-2:])
    inputs: dict[str, Any] = {"inputs": torch.empty(count, images.shape[1], height, width, device="meta")}
    for name in ("teacher_cls", "teacher_patches"):
        tokens = batch.get(name)
        if isinstance(tokens, Mapping):  # of several teachers
            inputs[name] = {key: torch.empty(count, *each.shape[1:], device="meta") for key, each in tokens.items()}
        elif tokens is not None:
            inputs[name] = torch.empty(count, *tokens.shape[1:], device="meta")
    if needs_labels and batch.get("labels") is not None:
        labels = batch["labels"]
        inputs["labels"] = torch.empty(count, *labels.shape[1:], dtype=labels.dtype, device="meta")
    if masks is not None:
        scale = count / len(images)
        patches = (height // patch) * (width // patch) if shift else masks.shape[1]
        masked = max(round(len(masks) * scale), 1)
        chosen = round(len(batch["mask_indices"]) * scale * patches / masks.shape[1])
        inputs["masks"] = torch.empty(masked, patches, dtype=torch.bool, device="meta")
        inputs["mask_indices"] = torch.empty(chosen, dtype=torch.long, device="meta")
    return inputs
