"""Small sets on disk, and fixtures that list their items."""

from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from proteus.datasets import FineGrainedSet


def encoded(colour: int, kind: str = "JPEG") -> bytes:
    content = BytesIO()
    Image.new("RGB", (8, 8), (colour, colour, colour)).save(content, kind)
    return content.getvalue()


@pytest.fixture(scope="session")
def put_images() -> Callable[[Path, Iterable[str]], None]:
    """Write an image to each of these paths below a folder."""
    contents = {".jpg": encoded(9), ".ppm": encoded(9, "PPM"), ".JPEG": encoded(9)}

    def put(root: Path, names: Iterable[str]) -> None:
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents[path.suffix])

    return put


@pytest.fixture(scope="session")
def put_texts() -> Callable[[Path, dict[str, str]], None]:
    """Write text files below a folder."""

    def put(root: Path, texts: dict[str, str]) -> None:
        for name, text in texts.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)

    return put


@pytest.fixture(scope="session")
def items() -> Callable[[FineGrainedSet], list[tuple[str, Any]]]:
    """List images and labels of a set, with paths relative to its folder."""

    def list_items(images: FineGrainedSet) -> list[tuple[str, Any]]:
        infos = [images.get_data_info(index) for index in range(len(images))]
        return [(Path(info["img_path"]).relative_to(images.home).as_posix(), info["label"]) for info in infos]

    return list_items


@pytest.fixture(scope="session")
def torchvision_items() -> Callable[[Any, Path], list[tuple[str, int]]]:
    """List images and labels of torchvision's reader of the same set, with paths relative to a folder."""

    def list_items(images: Any, home: Path) -> list[tuple[str, int]]:
        samples = getattr(images, "_samples", None) or getattr(images, "samples", None)
        if samples is None:
            paths = images._images if hasattr(images, "_images") else images._image_files
            samples = zip(paths, images._labels, strict=True)
        return [(Path(path).relative_to(home).as_posix(), label) for path, label in samples]

    return list_items
