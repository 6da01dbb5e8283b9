"""Every random choice about an image is a function of its key, never of worker, rank or wall clock."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import mtrand


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


# NumPy's generators for the blocks that are not being gone through, one for each depth that blocks were nested to.
_spare: list[np.random.MT19937] = []


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed ``random``, NumPy and torch (CPU) with ``key`` for the block, and put back what was there before.

    NumPy gets another generator for the block, since taking its state down and putting it back takes far longer. The
    second half of a pair of normal numbers, which NumPy keeps for the next draw, does not outlast the block.

    Args:
        *key: Non-negative integers; any change of any of them gives an unrelated stream.
    """
    states = random.getstate(), mtrand.get_bit_generator(), torch.get_rng_state()
    inner = _spare.pop() if _spare else np.random.MT19937(0)
    low, high = (int(word) for word in np.random.SeedSequence(key).generate_state(2))
    random.seed(low)
    mtrand.set_bit_generator(inner)
    np.random.seed(high)
    torch.random.default_generator.manual_seed(low << 32 | high)
    try:
        yield
    finally:
        random.setstate(states[0])
        mtrand.set_bit_generator(states[1])
        _spare.append(inner)
        torch.set_rng_state(states[2])
