from typing import Any

import numpy as np
import pytest

from proteus.datasets import CheckLabels
from proteus.structures import DataError


def results(mask: np.ndarray, **more: Any) -> dict[str, Any]:
    return {"gt_seg_map": mask, "seg_map_path": "m.png", "img_path": "i.jpg", "ori_shape": (4, 6), **more}


def test_classes_and_ignored_pixels_pass() -> None:
    mask = np.full((4, 6), 255, np.uint8)
    mask[0, :3] = 149
    assert CheckLabels(150)(results(mask))["gt_seg_map"] is mask


def test_a_label_is_told_as_it_stands_in_the_file() -> None:
    mask = np.full((4, 6), 150, np.uint8)
    with pytest.raises(DataError, match=r"m\.png: label 150 .*150 classes \(known: 0 to 149, 255"):
        CheckLabels(150)(results(mask))
    with pytest.raises(DataError, match=r"m\.png: label 151 .*\(known: 1 to 150, 0 for no class"):
        CheckLabels(150)(results(mask, reduce_zero_label=True))


def test_another_size_is_told_as_width_and_height() -> None:
    with pytest.raises(DataError, match=r"m\.png: the mask is 4x6 px, its image i\.jpg 6x4"):
        CheckLabels(150)(results(np.zeros((6, 4), np.uint8)))
