from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from proteus.datasets.segmentation.check_labels import CheckLabels
from proteus.structures import DataError


def results(mask: np.ndarray, **more: Any) -> dict[str, Any]:
    return {"gt_seg_map": mask, "seg_map_path": "m.png", "img_path": "i.jpg", "ori_shape": (4, 6), **more}


def test_classes_and_ignored_pixels_pass() -> None:
    mask = np.full((4, 6), 255, np.uint8)
    mask[0, :3] = 149
    assert CheckLabels(150)(results(mask))["gt_seg_map"] is mask


def test_labels_are_reported_as_stored_in_the_file() -> None:
    mask = np.full((4, 6), 150, np.uint8)
    with pytest.raises(DataError, match=r"m\.png: label 150 .*150 classes \(known: 0 to 149, 255"):
        CheckLabels(150)(results(mask))
    with pytest.raises(DataError, match=r"m\.png: label 151 .*\(known: 1 to 150, 0 for no class"):
        CheckLabels(150)(results(mask, reduce_zero_label=True))


def test_another_label_may_be_ignored() -> None:
    mask = np.full((4, 6), 11, np.uint8)
    assert CheckLabels(11, ignore_index=11)(results(mask))["gt_seg_map"] is mask
    with pytest.raises(DataError, match=r"label 255 .*\(known: 0 to 10, 11 to ignore\)"):
        CheckLabels(11, ignore_index=11)(results(np.full((4, 6), 255, np.uint8)))


def test_other_sizes_are_reported_as_width_and_height() -> None:
    with pytest.raises(DataError, match=r"m\.png: the mask is 4x6 px, but its image i\.jpg is 6x4"):
        CheckLabels(150)(results(np.zeros((6, 4), np.uint8)))


def stored(path: Path, labels: np.ndarray, image: Image.Image | None = None) -> dict[str, Any]:
    """Results of LoadAnnotations for a mask file: labels reduced to 8 bits."""
    (image or Image.fromarray(labels)).save(path)
    return results(labels.astype(np.uint8), seg_map_path=str(path))


@pytest.mark.parametrize(("label", "dtype"), [(300, np.uint16), (65535, np.uint16), (256, np.uint16), (70000, "i4")])
def test_labels_beyond_8_bits_are_found_in_the_file(tmp_path: Path, label: int, dtype: Any) -> None:
    """300 would become the valid label 44."""
    path = tmp_path / ("m.png" if dtype == np.uint16 else "m.tif")
    labels = np.full((4, 6), 3, dtype)
    labels[1, 1] = label
    given = stored(path, labels)
    given["gt_seg_map"][1, 1] = 3
    with pytest.raises(DataError, match=rf"m\.\w+: label {label} in a mask of 150 classes"):
        CheckLabels(150)(given)


def test_16_bit_masks_with_valid_labels_pass(tmp_path: Path) -> None:
    labels = np.full((4, 6), 149, np.uint16)
    labels[0] = 255
    CheckLabels(150)(stored(tmp_path / "m.png", labels))


def test_palette_masks_pass_and_colour_masks_do_not(tmp_path: Path) -> None:
    labels = np.full((4, 6), 7, np.uint8)
    palette = Image.fromarray(labels, "P")
    palette.putpalette(list(range(256)) * 3)
    CheckLabels(150)(stored(tmp_path / "m.png", labels, palette))
    with pytest.raises(DataError, match=r"m\.png: the mask has 3 channels \(RGB\); write one channel of class numbers"):
        CheckLabels(150)(stored(tmp_path / "m.png", labels, palette.convert("RGB")))
    with pytest.raises(DataError, match="the mask has 3 channels"):
        CheckLabels(150)(results(np.zeros((4, 6, 3), np.uint8)))
    with pytest.raises(DataError, match=r"m\.tif: the mask holds floating-point numbers"):
        CheckLabels(150)(stored(tmp_path / "m.tif", labels, Image.fromarray(labels.astype(np.float32))))
