"""Sets built small on disk, and how to read what was made of them."""

import gc
from collections.abc import Callable, Iterable, Iterator
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


@pytest.fixture(autouse=True, scope="module")
def _quick_collections() -> Iterator[None]:
    # MMEngine collects garbage whenever a set is listed, and looks at all of torch each time.
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def put_images() -> Callable[[Path, Iterable[str]], None]:
    """Write an image to each of these places below a folder."""
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
def told() -> Callable[[FineGrainedSet], list[tuple[str, Any]]]:
    """The images and labels of a set, paths below its folder."""

    def tell(images: FineGrainedSet) -> list[tuple[str, Any]]:
        infos = [images.get_data_info(index) for index in range(len(images))]
        return [(Path(info["img_path"]).relative_to(images.home).as_posix(), info["label"]) for info in infos]

    return tell


@pytest.fixture(scope="session")
def told_by_torchvision() -> Callable[[Any, Path], list[tuple[str, int]]]:
    """The images and labels of torchvision's reader of the same set, paths below a folder."""

    def tell(images: Any, home: Path) -> list[tuple[str, int]]:
        samples = getattr(images, "_samples", None) or getattr(images, "samples", None)
        if samples is None:
            paths = images._images if hasattr(images, "_images") else images._image_files
            samples = zip(paths, images._labels, strict=True)
        return [(Path(path).relative_to(home).as_posix(), label) for path, label in samples]

    return tell
