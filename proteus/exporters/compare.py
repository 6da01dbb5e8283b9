"""Comparison of what was written with the model that was exported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from proteus.checkpoints.errors import first_sentence
from proteus.exporters.model import ExportModel
from proteus.structures import UserError

TOLERANCE = 1e-3
"""Largest accepted difference."""


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
        Largest difference, as a fraction of the largest value (at least 1).

    Raises:
        ExportError: The difference is larger than :data:`TOLERANCE`, or not a number.
    """
    own = (model.img_size, model.img_size)
    worst = 0.0
    for size in (own, *sizes):
        for batch in batches:
            images = model.images(batch, size)
            try:
                with torch.inference_mode():
                    wanted = _tensors(model.features(images) if size == own else (reference or model.features)(images))
                    found = _tensors(run(images))
                difference = max(_difference(*pair) for pair in zip(found, wanted, strict=True))
            except Exception as error:  # runtimes raise many types
                if size == own:
                    raise ExportError(f"{file} cannot be run ({first_sentence(error)})") from error
                raise ExportError(f"{file}: {model.architecture} takes images of one size; {_FIXED}") from error
            if not difference <= TOLERANCE:
                remedy = _FIXED if size != own else "leave this format out, and please report it"
                raise ExportError(
                    f"{file} differs from torch by {difference:.1e} on {batch} images of {size[0]}x{size[1]} px and is "
                    f"not written; {remedy}"
                )
            worst = max(worst, difference)
    return worst


_FIXED = "leave out --dynamic-size, or export once for each size with --img-size"


def _difference(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape:
        return float("nan")
    return float((found - wanted).abs().max()) / max(1.0, float(wanted.abs().max()))


def _tensors(features: Any) -> tuple[Tensor, Tensor]:
    cls, patches = (features.cls, features.patches) if hasattr(features, "cls") else features
    return torch.as_tensor(cls), torch.as_tensor(patches)
