from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from proteus.datasets import CorruptImageError, LoadDepth, PackDepth
from proteus.datasets.transforms.depth_loading import read_depth
from proteus.structures import DataError


def load(path: Path, size: tuple[int, int] = (3, 2), depth_scale: float = 1000.0) -> dict:
    image = Image.new("RGB", size)
    return LoadDepth()({"img": image, "img_path": "a.jpg", "depth_path": str(path), "depth_scale": depth_scale})


def test_depths_in_metres(tmp_path: Path) -> None:
    path = tmp_path / "depth.png"
    Image.fromarray(np.array([[0, 1, 1500], [9999, 40000, 65535]], np.uint16)).save(path)
    results = load(path)
    assert results["depth"].dtype == torch.float32
    assert results["ori_shape"] == (2, 3)
    expected = torch.tensor([[0, 0.001, 1.5], [9.999, 40, 65.535]])
    torch.testing.assert_close(results["depth"].as_subclass(torch.Tensor), expected)
    torch.testing.assert_close(load(path, depth_scale=5000)["depth"].as_subclass(torch.Tensor), expected / 5)


def test_files_that_are_not_depth_maps(tmp_path: Path) -> None:
    path = tmp_path / "depth.png"
    for mode in ("L", "RGB", "RGBA", "1"):
        Image.new(mode, (3, 2)).save(path)
        with pytest.raises(DataError, match=r"depth\.png: a depth map is a PNG of one 16-bit channel"):
            load(path)
    Image.fromarray(np.ones((3, 2), np.uint16)).save(path)
    with pytest.raises(DataError, match=r"has 2 x 3 pixels, but its image a\.jpg has 3 x 2"):
        load(path)
    Image.fromarray(np.zeros((2, 3), np.uint16)).save(path)
    with pytest.raises(DataError, match="no valid depth"):
        load(path)
    Image.fromarray(np.random.default_rng(0).integers(0, 65536, (200, 300)).astype(np.uint16)).save(path)
    for content in (path.read_bytes()[:5000], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(CorruptImageError, match=r"depth\.png"):
            read_depth(str(path))
    with pytest.raises(CorruptImageError, match=r"none\.png"):
        read_depth(str(tmp_path / "none.png"))


def test_depths_beyond_16_bits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "depth.tif"
    Image.fromarray(np.array([[0, 1, 70000], [9, 9, 9]], np.int32)).save(path)
    with pytest.raises(DataError, match=r"depth\.tif: depths from 0 to 70000 do not fit in 16 bits: store millimetres"):
        load(path)
    Image.fromarray(np.array([[0, 1, 65535], [9, 9, -1]], np.int32)).save(path)
    with pytest.raises(DataError, match="depths from -1 to 65535"):
        load(path)
    Image.fromarray(np.array([[0, 1, 65535], [9, 9, 9]], np.int32)).save(path)
    assert load(path)["depth"].max() == np.float32(65.535)


def test_floating_point_depths_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 3), np.nan, np.float32)).save(tmp_path / "depth.tif")
    with pytest.raises(DataError, match=r"depth\.tif: a depth map of floating-point numbers: store millimetres"):
        load(tmp_path / "depth.tif")


def test_depth_maps_with_an_orientation_are_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(np.ones((2, 3), np.uint16)).save(tmp_path / "depth.png", exif=exif)
    with pytest.raises(DataError, match=r"depth\.png: the depth map has an EXIF orientation"):
        load(tmp_path / "depth.png")


def test_packing_needs_a_tensor() -> None:
    with pytest.raises(TypeError, match=r"put dict\(type='ToTensor'\) before it"):
        PackDepth()({"img": Image.new("RGB", (2, 2)), "depth": torch.ones(2, 2)})


def test_packing_copies_the_given_keys() -> None:
    results = {"img": torch.ones(3, 2, 2), "depth": torch.ones(2, 2), "img_path": "a", "scene": "attic", "other": 1}
    assert PackDepth(keys=["scene"])(results)["data_samples"].metainfo == {"img_path": "a", "scene": "attic"}
