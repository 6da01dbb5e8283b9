"""The Monocular-Depth-Estimation-Toolbox's layout of NYU Depth V2, as its converters write it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from proteus.datasets.converters.archive import Done
from proteus.utils import write_text

Split = Literal["train", "test"]
FOCAL = "518.8579"
"""Of NYU's camera, in pixels, as the lists of BTS give it with every pair."""


class Frame(NamedTuple):
    """A pair of the layout: both files below its folder, and the focal length."""

    image: str
    depth: str
    focal: str = FOCAL


class Converted(NamedTuple):
    """What became of a split.

    Attributes:
        done: Files written, and files that were there.
        frames: How many pairs it has.
        problems: What a check found wrong; empty unless one was asked for.
    """

    done: Done
    frames: int
    problems: list[str]


def list_file(target: Path, split: Split) -> Path:
    """Where the list of a split's pairs is."""
    return target / f"nyu_{split}.txt"


def write_list(target: Path, split: Split, frames: Sequence[Frame]) -> None:
    """Write the list of a split's pairs; it comes last, so that a split with a list is complete."""
    write_text(list_file(target, split), _text(frames))


def list_problems(target: Path, split: Split, frames: Sequence[Frame]) -> list[str]:
    """What is wrong with the list of a split's pairs."""
    path = list_file(target, split)
    if not path.is_file():
        return [f"{path} is missing"]
    return [] if path.read_text(encoding="utf-8") == _text(frames) else [f"{path} lists other pairs"]


def _text(frames: Sequence[Frame]) -> str:
    return "".join(f"/{frame.image} /{frame.depth} {frame.focal}\n" for frame in sorted(frames))
