"""Write and check the lists of pairs of the Monocular-Depth-Estimation-Toolbox's layout of NYU Depth V2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from proteus.datasets.converters.archive import FileCounts
from proteus.utils import write_text

Split = Literal["train", "test"]
FOCAL = "518.8579"
"""Focal length of NYU's camera in pixels, as in the lists of BTS."""


class Frame(NamedTuple):
    """A pair: its two files relative to the data set's folder, and the focal length."""

    image: str
    depth: str
    focal: str = FOCAL


class Converted(NamedTuple):
    """Result of converting a split.

    Attributes:
        counts: Files written and kept.
        frames: Number of pairs.
        problems: What a check found wrong; empty without a check.
    """

    counts: FileCounts
    frames: int
    problems: list[str]


def list_file(target: Path, split: Split) -> Path:
    """Path of the list of a split's pairs."""
    return target / f"nyu_{split}.txt"


def write_list(target: Path, split: Split, frames: Sequence[Frame]) -> None:
    """Write the list of a split's pairs. Write it last: a split with a list counts as complete."""
    write_text(list_file(target, split), _format_list(frames))


def list_problems(target: Path, split: Split, frames: Sequence[Frame]) -> list[str]:
    """Check the list of a split's pairs; returns the problems found."""
    path = list_file(target, split)
    if not path.is_file():
        return [f"{path} is missing"]
    return [] if path.read_text(encoding="utf-8") == _format_list(frames) else [f"{path} lists other pairs"]


def _format_list(frames: Sequence[Frame]) -> str:
    return "".join(f"/{frame.image} /{frame.depth} {frame.focal}\n" for frame in sorted(frames))
