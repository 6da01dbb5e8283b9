"""Small archives on disk."""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from PIL import Image


def _picture(kind: str, mode: str = "RGB", value: int = 9) -> bytes:
    content = BytesIO()
    image = Image.fromarray(np.full((12, 16), value, np.uint16)) if mode == "I;16" else Image.new(mode, (16, 12), value)
    image.save(content, kind)
    return content.getvalue()


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """An encoded image of 16 x 12 pixels."""
    return _picture


@pytest.fixture(scope="session")
def zipped() -> Callable[[Path, Mapping[str, bytes]], Path]:
    """Write a zip archive of these files."""

    def write(path: Path, files: Mapping[str, bytes]) -> Path:
        with ZipFile(path, "w", ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path

    return write


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Contents of all files below a folder except the lock."""

    def read(folder: Path) -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    return read
