"""Patch retrieval: an evaluation without labels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from proteus.structures import DataError, Features


def patch_retrieval(
    encode: Callable[[Tensor], Features], images: Tensor, size: int, seed: int = 0, batch_size: int = 16
) -> float:
    """Compute the fraction of patches of altered views that have their nearest patch in the original photograph.

    Each photograph is encoded twice: unchanged, and as an altered view (:func:`altered_views`), a mirrored crop with
    paler colours. Each patch token of an altered view is matched to its nearest patch token among those of *all*
    photographs. Mirroring removes position and paling the exact colour, both of which an untrained network relies on;
    the content stays.

    This is copy detection (find the original of an edited picture) per patch: one answer per patch instead of one per
    picture, and so less variance on few photographs.

    Args:
        encode: Maps photographs ``(B, 3, size, size)``, RGB in [0, 1], to features, including normalisation.
        images: ``(N, 3, H, W)``, RGB in [0, 1], of different scenes. Preferably larger than ``size``, since the altered
            views are crops.
        size: Height and width of the views, pixels.
        seed: Seed of the crops.
        batch_size: Photographs per batch.

    Returns:
        Between 0 and 1. Chance level, also for constant features, is ``1 / N``.

    Raises:
        DataError: There are fewer than two images, they are not RGB in [0, 1], or features are not finite.
        ValueError: ``size`` or ``batch_size`` is not positive.
    """
    if images.ndim != 4 or images.shape[1] != 3 or len(images) < 2:
        raise DataError(f"images should be at least two RGB photographs, (N, 3, H, W); found {tuple(images.shape)}")
    if size < 1 or batch_size < 1:
        raise ValueError(f"size={size}, batch_size={batch_size}: write positive integers")
    if not images.is_floating_point() or not (images.min() >= 0 and images.max() <= 1):
        raise DataError(f"images should be floats in [0, 1]; found {images.dtype}: divide bytes by 255")
    originals = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    views = altered_views(images, size, seed)
    keys, queries = (
        torch.cat([encode(batch).patches.detach().float() for batch in inputs.split(batch_size)])
        for inputs in (originals, views)
    )
    return nearest_patch_share(queries, keys)


def nearest_patch_share(queries: Tensor, keys: Tensor) -> float:
    """Compute the fraction of query patches that have their nearest key patch in the image of the same index.

    Patches are compared by cosine after subtracting the mean over all patches, of queries and keys separately, so that
    a direction common to all features or to all altered views has no effect.

    Args:
        queries: ``(N, P, D)``, patch tokens of N altered views.
        keys: ``(N, Q, D)``, patch tokens of the N originals, in the same order.

    Returns:
        Between 0 and 1.

    Raises:
        DataError: There are fewer than two images, so that every match is correct, or tokens are not finite.
    """
    if len(queries) < 2 or len(queries) != len(keys) or 0 in (*queries.shape, *keys.shape):
        raise DataError(
            f"expected patches of at least two photographs and the same number of views; found {tuple(queries.shape)} "
            f"and {tuple(keys.shape)}"
        )
    for name, tokens in (("altered views", queries), ("photographs", keys)):
        if not tokens.isfinite().all():
            raise DataError(f"patch retrieval: patch tokens of the {name} are NaN or infinite")
    queries, keys = (F.normalize(tokens - tokens.mean(dim=(0, 1)), dim=-1) for tokens in (queries, keys))
    gallery = keys.flatten(0, 1).t()
    hits = [((view @ gallery).argmax(dim=1) // keys.shape[1] == index) for index, view in enumerate(queries)]
    return torch.stack(hits).float().mean().item()


def altered_views(images: Tensor, size: int, seed: int = 0) -> Tensor:
    """Crop, mirror and pale photographs.

    A random square of 0.8 to 1 of the shorter side is cropped, mirrored, and blended 50 % with grey (the mean of red,
    green and blue). Stronger changes of colour separate trained from untrained networks even better, but are too hard
    for a student that was distilled for minutes.

    Args:
        images: ``(N, 3, H, W)``, RGB in [0, 1].
        size: Height and width of the views, pixels.
        seed: Seed of the crops.

    Returns:
        ``(N, 3, size, size)``, in [0, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = images.shape[-2:]
    draws = torch.rand(len(images), 3, generator=generator).tolist()
    views = []
    for image, (scale, down, across) in zip(images, draws, strict=True):
        side = round((0.8 + 0.2 * scale) * min(height, width))
        top, left = round(down * (height - side)), round(across * (width - side))
        cut = image[:, top : top + side, left : left + side].flip(-1)
        views.append(F.interpolate(cut[None], size=(size, size), mode="bilinear", antialias=True))
    colour = torch.cat(views)
    return (colour + colour.mean(dim=1, keepdim=True)) / 2
