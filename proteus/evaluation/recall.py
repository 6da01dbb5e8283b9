"""Recall of image-text retrieval."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

RANKS = (1, 5, 10)
"""The numbers k of the recalls at k that papers report."""
_ROWS_AT_ONCE = 512


def retrieval_ranks(images: Tensor, captions: Tensor, image_of: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Rank the captions for each image, and the images for each caption, by cosine.

    Equal cosines keep the order of the data set, so that constant embeddings have recalls near chance.

    Args:
        images: Embeddings ``(N, D)`` of length 1.
        captions: Embeddings ``(M, D)`` of length 1.
        image_of: Position of each caption's image ``(M,)``; every image has a caption.

    Returns:
        Rank of the best of each image's captions among all captions, ``(N,)`` int64 from 1; and rank of each caption's
        image among all images, ``(M,)``.
    """
    owner = torch.as_tensor(image_of)
    of_captions, of_images = [], []
    for start in range(0, len(images), _ROWS_AT_ONCE):
        rows = torch.arange(start, min(start + _ROWS_AT_ONCE, len(images)))
        of_captions.append(_rank(images[rows] @ captions.T, owner == rows[:, None]))
    for start in range(0, len(captions), _ROWS_AT_ONCE):
        own = owner[start : start + _ROWS_AT_ONCE]
        cosines = captions[start : start + _ROWS_AT_ONCE] @ images.T
        of_images.append(_rank(cosines, torch.arange(len(images)) == own[:, None]))
    return torch.cat(of_captions), torch.cat(of_images)


def recall(ranks: Tensor, k: int) -> float:
    """Return the percentage of ranks ``(N,)`` of ``k`` or less."""
    return 100 * float((ranks <= k).double().mean())


def _rank(cosines: Tensor, is_right: Tensor) -> Tensor:
    """Rank of the best right candidate in each row ``(B, C)``, the first of equal ones."""
    best = cosines.masked_fill(~is_right, -torch.inf).amax(dim=1, keepdim=True)
    is_best = cosines == best
    place = (is_best & is_right).int().argmax(dim=1, keepdim=True)
    before = torch.arange(cosines.shape[1]) < place
    return 1 + ((cosines > best) | (is_best & before)).sum(dim=1)
