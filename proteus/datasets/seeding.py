"""Reproducible randomness: all random choices about an image depend on its key, not on worker, rank or time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from numpy.random import mtrand


class SampleKey(int):
    """Index into a data set that also identifies the random view of the image.

    It is an ``int`` that equals the index, so that any data set can be indexed with it: torch's, an MMEngine
    ``BaseDataset``, a data frame. Addition, subtraction and modulo keep the view.

    Args:
        seed: Seed of the run.
        epoch: The epoch, from 0.
        image: Position in the proxy set.
        view: Repeat within the epoch, for repeated augmentation.
        size: Height and width of the view in pixels; None for the size of the pipeline. No random choice depends on it.
    """

    seed: int
    epoch: int
    view: int
    size: tuple[int, int] | None

    def __new__(
        cls, seed: int, epoch: int, image: int, view: int = 0, size: tuple[int, int] | None = None
    ) -> SampleKey:
        """Create the ``int`` ``image`` with the attributes of the key."""
        key = super().__new__(cls, image)
        key.seed, key.epoch, key.view, key.size = seed, epoch, view, size
        return key

    @classmethod
    def of(cls, index: int) -> SampleKey:
        """Return the key of an index: the index itself if it is a key, else the current key at this index.

        A wrapper such as torch's ``Subset`` passes a plain index of another image to the set inside it. The view is
        that of the key with which the wrapper was called (:func:`reading`); without one, all parts are 0.
        """
        if isinstance(index, SampleKey):
            return index
        current = _reading.get()
        return cls(0, 0, int(index)) if current is None else current.at(int(index))

    @property
    def image(self) -> int:
        """Position in the proxy set."""
        return int(self)

    @property
    def parts(self) -> tuple[int, int, int, int]:
        """``(seed, epoch, image, view)``, which identify the key."""
        return self.seed, self.epoch, int(self), self.view

    def at(self, image: int) -> SampleKey:
        """Return the key of the same view of another image."""
        return SampleKey(self.seed, self.epoch, image, self.view, self.size)

    def resized(self, size: tuple[int, int] | None) -> SampleKey:
        """Return the key of the same view in another size."""
        return SampleKey(*self.parts, size)

    def __add__(self, other: int) -> SampleKey:
        return self.at(int(self) + int(other))

    def __sub__(self, other: int) -> SampleKey:
        return self.at(int(self) - int(other))

    def __mod__(self, other: int) -> SampleKey:
        return self.at(int(self) % int(other))

    def __repr__(self) -> str:
        return f"SampleKey(seed={self.seed}, epoch={self.epoch}, image={int(self)}, view={self.view})"

    def __reduce__(self) -> tuple[type[SampleKey], tuple[int, int, int, int, tuple[int, int] | None]]:
        """Pickle all parts: workers receive keys through a queue."""
        return SampleKey, (*self.parts, self.size)


_reading: ContextVar[SampleKey | None] = ContextVar("reading", default=None)


@contextmanager
def reading(key: SampleKey) -> Iterator[None]:
    """Within the block, let :meth:`SampleKey.of` complete plain indices with the parts of ``key``."""
    token = _reading.set(key)
    try:
        yield
    finally:
        _reading.reset(token)


_size: ContextVar[tuple[int, int] | None] = ContextVar("size", default=None)


@contextmanager
def making_size_of(key: SampleKey) -> Iterator[None]:
    """Within the block, let :func:`wanted_size` return the size of ``key``."""
    token = _size.set(key.size)
    try:
        yield
    finally:
        _size.reset(token)


def wanted_size(side: int) -> tuple[int, int]:
    """Height and width in pixels of the image that the last crop of a pipeline makes.

    Args:
        side: Side of the square that it makes where nothing else is asked for.
    """
    return _size.get() or (side, side)


# Unused NumPy generators, at most one for each depth of nested blocks.
_spare: list[np.random.MT19937] = []


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed ``random``, NumPy and torch (CPU) with ``key`` for the block, then restore their states.

    NumPy uses another generator within the block, which is much faster than saving and restoring its state. A normal
    number that NumPy has cached for its next draw does not survive the block.

    Args:
        *key: Non-negative integers. Different keys give unrelated streams. A :class:`SampleKey` counts as its four
            parts.
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
