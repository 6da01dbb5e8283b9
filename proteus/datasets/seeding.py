"""Every random choice about an image is a function of its key, never of worker, rank or wall clock."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from numpy.random import mtrand


class SampleKey(int):
    """An index into a data set that also carries which random view of the image is wanted.

    It is an ``int``, equal to the index and with its hash, so that any data set can be indexed with it: torch's, an
    MMEngine ``BaseDataset``, a data frame. Adding to it, or taking it modulo a length, keeps the view.

    Args:
        seed: The run's seed.
        epoch: How often the proxy set has been gone through before.
        image: Position within the proxy set.
        view: Which repeat within the epoch, when augmentation is repeated.
    """

    seed: int
    epoch: int
    view: int

    def __new__(cls, seed: int, epoch: int, image: int, view: int = 0) -> SampleKey:
        """Make an ``int`` of ``image``."""
        key = super().__new__(cls, image)
        key.seed, key.epoch, key.view = seed, epoch, view
        return key

    @classmethod
    def of(cls, index: int) -> SampleKey:
        """The key of an index: itself if it is one, else that of the set which is being read, or of no seed.

        A wrapper such as torch's ``Subset`` hands the set within it an index of another image; the view is still that
        of the key which the wrapper was given (:func:`reading`).
        """
        if isinstance(index, SampleKey):
            return index
        current = _reading.get()
        return cls(0, 0, int(index)) if current is None else current.at(int(index))

    @property
    def image(self) -> int:
        """Position within the proxy set."""
        return int(self)

    @property
    def parts(self) -> tuple[int, int, int, int]:
        """``(seed, epoch, image, view)``: identifies this key."""
        return self.seed, self.epoch, int(self), self.view

    def at(self, image: int) -> SampleKey:
        """The key of the same view of another image."""
        return SampleKey(self.seed, self.epoch, image, self.view)

    def __add__(self, other: int) -> SampleKey:
        return self.at(int(self) + int(other))

    def __sub__(self, other: int) -> SampleKey:
        return self.at(int(self) - int(other))

    def __mod__(self, other: int) -> SampleKey:
        return self.at(int(self) % int(other))

    def __repr__(self) -> str:
        return f"SampleKey(seed={self.seed}, epoch={self.epoch}, image={int(self)}, view={self.view})"

    def __reduce__(self) -> tuple[type[SampleKey], tuple[int, int, int, int]]:
        """Pickle with all parts: workers get the keys through a queue."""
        return SampleKey, self.parts


_reading: ContextVar[SampleKey | None] = ContextVar("reading", default=None)


@contextmanager
def reading(key: SampleKey) -> Iterator[None]:
    """Make ``key`` the one that :meth:`SampleKey.of` completes plain indices with, for the block."""
    token = _reading.set(key)
    try:
        yield
    finally:
        _reading.reset(token)


# NumPy's generators for the blocks that are not being gone through, one for each depth that blocks were nested to.
_spare: list[np.random.MT19937] = []


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed ``random``, NumPy and torch (CPU) with ``key`` for the block, and put back what was there before.

    NumPy gets another generator for the block, since taking its state down and putting it back takes far longer. The
    second half of a pair of normal numbers, which NumPy keeps for the next draw, does not outlast the block.

    Args:
        *key: Non-negative integers; any change of any of them gives an unrelated stream. A :class:`SampleKey` stands
            for its four parts.
    """
    numbers = [part for one in key for part in (one.parts if isinstance(one, SampleKey) else (int(one),))]
    states = random.getstate(), mtrand.get_bit_generator(), torch.get_rng_state()
    inner = _spare.pop() if _spare else np.random.MT19937(0)
    low, high = (int(word) for word in np.random.SeedSequence(numbers).generate_state(2))
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
