"""Batches of which a share of the images is masked."""

from __future__ import annotations

import math


def more_masks(probability: float, batch_size: str) -> str:
    """Return advice for a batch in which no image is masked.

    Args:
        probability: Share of the batch that is masked, from 0 to 1.
        batch_size: Key of the batch size.
    """
    if probability == 0:
        return "set collate_fn.probability above 0"
    return f"set {batch_size} to at least {smallest_batch(probability)}"


def smallest_batch(probability: float) -> int:
    """Return the smallest batch size with at least one masked image.

    Args:
        probability: Share of the batch that is masked, above 0.
    """
    batch = math.floor(1 / probability)
    while int(batch * probability) == 0:
        batch += 1
    return batch
