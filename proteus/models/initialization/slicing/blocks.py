"""Which blocks of the teacher a student with fewer blocks gets."""

from __future__ import annotations


def evenly_spaced_blocks(theirs: int, ours: int) -> list[int]:
    """Return the first ``ours * k / theirs``-th blocks, the first one included."""
    return [theirs * k // ours for k in range(ours)]
