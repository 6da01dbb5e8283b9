"""One folder of images, one teacher and one small config for all processes of these tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import write_config, write_images, write_teacher


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``images``, ``teacher.safetensors`` and ``small.py``."""
    folder = tmp_path_factory.mktemp("runs")
    write_config(folder, write_images(folder / "images"), write_teacher(folder / "teacher.safetensors"))
    return folder


@pytest.fixture(scope="session")
def config(place: Path) -> Path:
    return place / "small.py"
