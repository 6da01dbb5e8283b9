"""A figure without labels: which photograph is this patch from?"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from proteus.structures import DataError, Features


def patch_retrieval(
    encode: Callable[[Tensor], Features], images: Tensor, size: int, seed: int = 0, batch_size: int = 16
) -> float:
    """Share of the patches of changed views whose nearest patch lies in the photograph they were cut from.

    Every photograph is seen twice: as it is, and as :func:`changed_views` makes it, a paler mirrored crop. Each patch
    token of a changed view looks for its nearest patch token among those of *all* photographs. Mirroring takes away
    place and paling the exact colour, on both of which an untrained network leans; what the picture shows stays.

    It is copy detection (find the original of an edited picture among others) decided patch by patch: one answer a
    patch instead of one a picture, and so a steadier figure on few photographs.

    Args:
        encode: Photographs ``(B, 3, size, size)``, RGB in [0, 1], to their features; it normalises them as its network
            wants, and runs without gradient if it wants to.
        images: ``(N, 3, H, W)``, RGB in [0, 1], all of different scenes. Best larger than ``size``, since the changed
            views are cut out of them.
        size: Height and width of the views, pixels.
        seed: Of the crops.
        batch_size: Photographs encoded at once.

    Returns:
        Between 0 and 1. Chance, and what constant features score, is ``1 / N``.

    Raises:
        DataError: ``images`` are fewer than two, or not RGB in [0, 1]; or features are not finite.
        ValueError: ``size`` or ``batch_size`` is not positive.
    """
    if images.ndim != 4 or images.shape[1] != 3 or len(images) < 2:
        raise DataError(f"images should be at least two RGB photographs, (N, 3, H, W); found {tuple(images.shape)}")
    if size < 1 or batch_size < 1:
        raise ValueError(f"size={size}, batch_size={batch_size}: write positive integers")
    if not images.is_floating_point() or not (images.min() >= 0 and images.max() <= 1):
        raise DataError(f"images should be floats in [0, 1]; found {images.dtype}: divide bytes by 255")
    originals = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    views = changed_views(images, size, seed)
    keys, queries = (
        torch.cat([encode(batch).patches.detach().float() for batch in several.split(batch_size)])
        for several in (originals, views)
    )
    return nearest_patch_share(queries, keys)


def nearest_patch_share(queries: Tensor, keys: Tensor) -> float:
    """Share of query patches whose nearest key patch belongs to the image of the same index.

    Near is a high cosine after the mean over all patches is taken off, of queries and of keys separately, so that
    neither a direction that all features share nor one that all changed views share decides.

    Args:
        queries: ``(N, P, D)``, patch tokens of N changed views.
        keys: ``(N, Q, D)``, patch tokens of the N originals, in the same order.

    Returns:
        Between 0 and 1.

    Raises:
        DataError: Fewer than two images are given, so that every answer would be right, or tokens are not finite.
    """
    if len(queries) < 2 or len(queries) != len(keys) or 0 in (*queries.shape, *keys.shape):
        raise DataError(
            f"patches of at least two photographs and as many views are compared; found {tuple(queries.shape)} and "
            f"{tuple(keys.shape)}"
        )
    for name, tokens in (("changed views", queries), ("photographs", keys)):
        if not tokens.isfinite().all():
            raise DataError(f"patch retrieval: the network's patch tokens of the {name} are NaN or infinite")
    queries, keys = (F.normalize(tokens - tokens.mean(dim=(0, 1)), dim=-1) for tokens in (queries, keys))
    gallery = keys.flatten(0, 1).t()
    hits = [((view @ gallery).argmax(dim=1) // keys.shape[1] == index) for index, view in enumerate(queries)]
    return torch.stack(hits).float().mean().item()


def changed_views(images: Tensor, size: int, seed: int = 0) -> Tensor:
    """Cut, mirror and pale photographs.

    A square of 0.8 to 1 of the shorter side is cut out at a random place, mirrored, and moved half way to grey (the
    mean of red, green and blue). Stronger changes of colour part a trained network from an untrained one even more, but
    a student that was distilled for minutes does not see through them yet.

    Args:
        images: ``(N, 3, H, W)``, RGB in [0, 1].
        size: Height and width of the views, pixels.
        seed: Of the crops.

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
