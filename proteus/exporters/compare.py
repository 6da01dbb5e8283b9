"""Comparison of what was written with the model that was exported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from proteus.exporters.model import ExportModel
from proteus.structures import UserError

TOLERANCE = 1e-3
"""Largest accepted difference, as a fraction of the largest value (at least 1)."""


class ExportError(UserError):
    """An exported file that gives other features, or an option that an exporter refuses."""


def largest_difference(
    model: ExportModel,
    run: Callable[[Tensor], Any],
    file: str,
    batches: Sequence[int] = (1, 3),
    sizes: Sequence[tuple[int, int]] = (),
    reference: Callable[[Tensor], Any] | None = None,
) -> float:
    """Compare the features of an exported file with those of the model, on random images.

    Args:
        model: The model that was exported.
        run: Images ``(B, 3, H, W)`` -> ``Features`` or ``(cls, patches)`` of the file.
        file: Name of the file, for messages.
        batches: Batch sizes to compare.
        sizes: Further sizes ``(H, W)`` of images; ``img_size`` is always compared.
        reference: Expected features at ``sizes``; those of the model by default.

    Returns:
        Largest absolute difference.

    Raises:
        ExportError: The difference is larger than :data:`TOLERANCE`, or not a number.
    """
    worst = 0.0
    for size in [(model.img_size, model.img_size), *sizes]:
        for batch in batches:
            images = model.images(batch, size)
            with torch.inference_mode():
                wanted = _tensors((reference or model.features)(images) if size in sizes else model.features(images))
                found = _tensors(run(images))
            for one, other in zip(found, wanted, strict=True):
                if one.shape != other.shape:
                    raise ExportError(f"{file}: the shape {tuple(one.shape)} differs from torch's {tuple(other.shape)}")
                difference = float((one - other).abs().max())
                if not difference <= TOLERANCE * max(1.0, float(other.abs().max())):
                    raise ExportError(
                        f"{file} differs from torch by {difference:.1e} on {batch} images of {size[0]}x{size[1]} px and "
                        "is not written; leave this format out of --formats, and please report it"
                    )
                worst = max(worst, difference)
    return worst


def _tensors(features: Any) -> tuple[Tensor, Tensor]:
    cls, patches = (features.cls, features.patches) if hasattr(features, "cls") else features
    return torch.as_tensor(cls), torch.as_tensor(patches)
