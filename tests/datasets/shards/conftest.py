import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mmengine.logging import MMLogger
from object_store import s3_server
from PIL import Image

from proteus.datasets.shards import remote_folder
from proteus.datasets.shards.packing import pack

COUNT = 40


@pytest.fixture(scope="package")
def proxy_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images in five classes."""
    root = tmp_path_factory.mktemp("proxy") / "images"
    generator = np.random.default_rng(0)
    for number in range(COUNT):
        path = root / f"n{number % 5}/{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (9, 12, 3), dtype=np.uint8)).save(path)
    return root


@pytest.fixture(scope="package")
def packed(proxy_images: Path) -> Path:
    """The images in ten shards."""
    pack(proxy_images, proxy_images.parent / "shards", per_shard=4, report=lambda _: None, shuffle=True)
    return proxy_images.parent / "shards"


@pytest.fixture(scope="package")
def s3() -> Iterator[str]:
    """An S3 server with the bucket ``proxy``; its endpoint."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the copies."""
    monkeypatch.setenv("PROTEUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_folder, "FIRST_WAIT", 0.01)
    return tmp_path / "cache/shards"


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Lines that are logged."""
    texts: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield texts
    logger.removeHandler(handler)
