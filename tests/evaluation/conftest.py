"""A small labelled set on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from PIL import Image

PIPELINE = [
    {"type": "LoadImage"},
    {"type": "ResizeEdge", "scale": 32},
    {"type": "CenterCrop", "crop_size": 32},
    {"type": "ToTensor"},
    {"type": "PackInputs"},
]


def write_classes(folder: Path, train: int = 8, test: int = 4) -> Path:
    """Write three classes that differ in colour, with noise; deterministic."""
    generator = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for label, colour in enumerate(((200, 60, 60), (60, 200, 60), (60, 60, 200))):
            path = folder / part / f"class{label}"
            path.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = np.clip(generator.normal(colour, 60, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(path / f"{number:02}.png")
    return folder


@pytest.fixture
def classes(tmp_path: Path) -> Callable[..., Path]:
    init_default_scope("proteus")
    return lambda name="colours", **counts: write_classes(tmp_path / "data" / name, **counts)
