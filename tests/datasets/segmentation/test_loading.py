from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proteus.datasets.segmentation.loading import LoadBGRImage
from proteus.registry import TRANSFORMS
from proteus.structures import CorruptImageError


def test_channels_are_bgr(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (3, 2), (10, 20, 30)).save(path)
    results = TRANSFORMS.build(dict(type="proteus.LoadBGRImage"))({"img_path": str(path), "seg_map_path": "a"})
    assert results["img"].shape == (2, 3, 3)
    assert results["img"].dtype == np.uint8
    assert results["img"][0, 0].tolist() == [30, 20, 10]
    assert results["img"].flags.c_contiguous
    assert results["img_shape"] == results["ori_shape"] == (2, 3)
    assert results["seg_map_path"] == "a"


def test_pixels_of_16_bits_are_scaled(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((2, 2), 128 * 257, np.uint16)).save(path)
    assert (LoadBGRImage()({"img_path": path})["img"] == 128).all()


def test_images_are_upright(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (16, 8)).save(path, exif=exif)
    assert LoadBGRImage()({"img_path": path})["ori_shape"] == (16, 8)


def test_corrupt_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"no image")
    with pytest.raises(CorruptImageError, match=r"a\.jpg"):
        LoadBGRImage()({"img_path": path})
