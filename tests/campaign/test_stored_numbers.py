"""Masks and depth maps of every kind of file: the numbers that were stored, or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_kinds import exif, png, saved, squares, tiff
from PIL import Image

from proteus.datasets.depth.pairs import Pair, check_headers
from proteus.datasets.segmentation.check_labels import read_mask
from proteus.datasets.segmentation.pairs import check_pairs
from proteus.datasets.transforms.depth_loading import read_depth
from proteus.structures import DataError

LABELS, DEPTHS = (0, 1, 2, 3), (0, 1000, 2000, 65535)
labels, depths = squares(LABELS), squares(DEPTHS, np.uint16)
mask, depth = Image.fromarray(labels), Image.fromarray(depths)
PALETTE = {b"PLTE": bytes(range(12))}
XMP = {b"iTXt": b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'}

MASKS = {
    "grey8.png": saved(mask, "PNG"),
    "grey8-interlaced.png": png(labels, 0, 8, interlaced=True),
    "grey16.png": saved(Image.fromarray(labels.astype(np.uint16)), "PNG"),
    "transparent.png": png(labels, 0, 8, early={b"tRNS": b"\0\1"}),
    "palette2.png": png(labels, 3, 2, early=PALETTE),
    "palette4.png": png(labels, 3, 4, early=PALETTE),
    "palette8.png": png(labels, 3, 8, early=PALETTE),
    "grey8.tif": saved(mask, "TIFF"),
    "lzw.tif": saved(mask, "TIFF", compression="tiff_lzw"),
    "int32.tif": saved(Image.fromarray(labels.astype(np.int32)), "TIFF"),
    "grey8.pgm": saved(mask, "PPM"),
    "grey8.bmp": saved(mask, "BMP"),
}
NO_MASKS = {
    "grey.jpg": (saved(mask, "JPEG", quality=100), "is a JPEG, which does not keep numbers; write it again, as PNG"),
    "jpeg.tif": (saved(mask, "TIFF", compression="jpeg"), "is a TIFF with jpeg compression, which does not keep"),
    "grey.jp2": (saved(mask, "JPEG2000"), "is a JPEG2000, which does not keep"),
    "grey.webp": (saved(mask, "WEBP", lossless=True), "has 3 channels"),
    "grey2.png": (png(labels, 0, 2), "has 2 or 4 bits, which readers scale to 8"),
    "grey4.png": (png(labels, 0, 4), "has 2 or 4 bits"),
    "white-is-zero.tif": (tiff(labels.tobytes(), [8], 0), "has inverted numbers"),
    "grey3.pgm": (b"P5 16 16 3\n" + labels.tobytes(), "has a largest value of 3, to which readers scale"),
    "plain.pgm": (b"P2 16 16 3 " + " ".join(map(str, labels.ravel())).encode(), "has a largest value of 3"),
    "exif6.png": (saved(mask, "PNG", exif=exif(6)), "has an EXIF orientation"),
    "exif6-late.png": (png(labels, 0, 8, {b"eXIf": exif(6)}), "has an EXIF orientation"),
    "xmp6.png": (png(labels, 0, 8, early=XMP), "has an EXIF orientation"),
    "exif6.tif": (tiff(labels.tobytes(), [8], 1, t274=6), "has an EXIF orientation"),
    "float.tif": (tiff(labels.astype("<f4").tobytes(), [32], 1, t339=3), "floating-point numbers"),
}
DEPTH_MAPS = {
    "grey16.png": saved(depth, "PNG"),
    "interlaced.png": png(depths, 0, 16, interlaced=True),
    "grey16.tif": saved(depth, "TIFF", compression="tiff_deflate"),
    "grey16.pgm": b"P5 16 16 65535\n" + depths.astype(">u2").tobytes(),
}
NO_DEPTH_MAPS = {
    "grey16.jp2": (saved(depth, "JPEG2000"), "is a JPEG2000, which does not keep numbers"),
    "millimetres.pgm": (b"P5 16 16 10000\n" + squares((0, 1, 2, 9999), ">u2").tobytes(), "a largest value of 10000"),
    "exif6.tif": (tiff(depths.astype("<u2").tobytes(), [16], 1, t274=6), "has an EXIF orientation"),
    "exif6-late.png": (png(depths, 0, 16, {b"eXIf": exif(6)}), "has an EXIF orientation"),
    "grey8.png": (saved(mask, "PNG"), "has Pillow's mode 'L'"),
    "rgb16.png": (png(np.zeros((16, 16, 3)), 2, 16), "has Pillow's mode 'RGB'"),
    "negative.tif": (tiff(squares((0, 1, 2, -1), "<i2").tobytes(), [16], 1, t339=2), "do not fit in 16 bits"),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(MASKS[name])
    assert np.array_equal(read_mask(str(tmp_path / name)), labels)


@pytest.mark.parametrize("name", NO_MASKS)
def test_masks_that_are_refused(name: str, tmp_path: Path) -> None:
    """When they are read, and before training with all others, by their headers."""
    content, words = NO_MASKS[name]
    path, image = tmp_path / name, tmp_path / "image.png"
    path.write_bytes(content)
    Image.new("RGB", (16, 16)).save(image)
    for check in (lambda: read_mask(str(path)), lambda: check_pairs([(str(image), str(path))], [str(path)])):
        with pytest.raises(DataError, match=rf"{name}: the mask .*{words}"):
            check()


@pytest.mark.parametrize("name", DEPTH_MAPS)
def test_depth_maps(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(DEPTH_MAPS[name])
    assert np.array_equal(read_depth(str(tmp_path / name)), depths)


@pytest.mark.parametrize("name", NO_DEPTH_MAPS)
def test_depth_maps_that_are_refused(name: str, tmp_path: Path) -> None:
    content, words = NO_DEPTH_MAPS[name]
    path, image = tmp_path / name, tmp_path / "image.png"
    path.write_bytes(content)
    Image.new("RGB", (16, 16)).save(image)
    with pytest.raises(DataError, match=rf"{name}: .*{words}"):
        read_depth(str(path))
    if name != "negative.tif":  # its header is that of a depth map
        with pytest.raises(DataError, match=rf"{name}: .*{words}"):
            check_headers([Pair(str(image), str(path), "a list")])
