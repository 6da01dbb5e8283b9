"""Every random choice about an image is a function of its key, never of worker, rank or wall clock."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch


class SampleKey(NamedTuple):
    """Which image, and which of its random views.

    Attributes:
        seed: The run's seed.
        epoch: How often the proxy set has been gone through before.
        image: Position within the proxy set.
        view: Which repeat within the epoch, when augmentation is repeated.
    """

    seed: int
    epoch: int
    image: int
    view: int = 0


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed ``random``, NumPy and torch (CPU) with ``key`` for the block, and put back what was there before.

    Args:
        *key: Non-negative integers; any change of any of them gives an unrelated stream.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    low, high = (int(word) for word in np.random.SeedSequence(key).generate_state(2))
    random.seed(low)
    np.random.seed(high)
    torch.random.default_generator.manual_seed(low << 32 | high)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
