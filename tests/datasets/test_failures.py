from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from runs import write_images

from proteus.datasets import ImageFolder
from proteus.structures import DataError


class Broken:
    """Transform that raises a given error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        raise self.error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("depth"), "KeyError: 'depth'"),
        (AssertionError(), "AssertionError"),
        (ZeroDivisionError("by\nzero"), "ZeroDivisionError: by zero"),
        (StopIteration(), "StopIteration"),
        (FileNotFoundError(2, "gone", "/nowhere/a.txt"), r"FileNotFoundError: .*/nowhere/a\.txt'"),
    ],
)
def test_user_transforms_are_named_with_the_line_of_code(error: Exception, words: str, tmp_path: Path) -> None:
    images = ImageFolder(str(write_images(tmp_path / "images", 4)), [{"type": "proteus.LoadImage"}, Broken(error)])
    with pytest.raises(DataError) as caught:
        images[3]
    assert re.fullmatch(
        rf"dataset\.pipeline\[1\] \(Broken\): {words} \(.*test_failures\.py, line \d+\)", str(caught.value)
    )
