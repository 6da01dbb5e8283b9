"""A labelled set with overlapping features, so that no classifier is always correct."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with ``data/colours``: three classes of 10 training and 6 test images."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 10), ("test", 6)):
        for label, tint in enumerate(np.eye(3)):
            folder = tmp_path / f"data/colours/{part}/class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                colour = generator.normal(120 + 20 * tint, 15)
                pixels = np.clip(generator.normal(colour, 40, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return tmp_path


@pytest.fixture
def uneven(place: Path) -> Path:
    """The same folder with fewer test images of two classes."""
    for name in ("class0/00", "class0/01", "class0/02", "class0/03", "class2/05"):
        (place / f"data/colours/test/{name}.png").unlink()
    return place
