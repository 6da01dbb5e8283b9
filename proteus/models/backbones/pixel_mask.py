"""Masked images for models without a mask token: the pixels of masked patches get one colour."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from proteus.models.backbones.features import grid_of_tokens
from proteus.structures import DataError, Features
from proteus.utils.argument_checks import check_choice

MaskColour = Literal["mean", "learnt"]


# Zeros, the mean of the statistics, would give a stem without bias nothing but zeros, and the gradients of a layer norm
# are divided by their standard deviation.
_FIRST_COLOUR = 0.5


def make_colour(kind: MaskColour | None) -> nn.Parameter | None:
    """Make the learnt colour of masked patches, ``(3, 1, 1)``, in normalised images.

    Args:
        kind: ``mean`` for the mean colour of each image, ``learnt`` for a parameter, None for none.

    Returns:
        The parameter; None unless ``kind`` is ``learnt``.
    """
    check_choice("mask_colour", kind, (None, "mean", "learnt"))
    return nn.Parameter(torch.full((3, 1, 1), _FIRST_COLOUR)) if kind == "learnt" else None


def paint_masked(images: Tensor, masks: Tensor, colour: Tensor | None = None) -> Tensor:
    """Give the pixels of masked patches one colour.

    Args:
        images: ``(B, 3, H, W)``.
        masks: ``(B, h * w)`` bool, of patches that divide the images evenly; True is masked.
        colour: ``(3, 1, 1)``; by default the mean colour of each image.

    Raises:
        ValueError: The masks do not form a grid over the images.
    """
    rows, columns = grid_of_tokens(masks.shape[1], images)
    pixels = F.interpolate(masks.view(-1, 1, rows, columns).float(), size=images.shape[-2:], mode="nearest") > 0
    if colour is None:
        colour = images.mean(dim=(2, 3), keepdim=True)
    return torch.where(pixels, colour.to(images.dtype), images)


def check_masks(masks: Tensor, features: Features) -> None:
    """Check that masks ``(M, N)`` have a value for each patch.

    Raises:
        DataError: They have another grid than the features.
    """
    if masks.shape[1] != features.patches.shape[1]:
        raise DataError(
            f"masks of {masks.shape[1]} values for images of {features.patches.shape[1]} patches: draw one for each, "
            "by patch_size of the mask transform"
        )


def has_batch_norm(model: nn.Module) -> bool:
    """Whether a model in training takes statistics over the batch."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch norm as they are, while batches are normalised by their own."""
    norms: list[Any] = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
