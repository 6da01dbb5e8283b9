"""Each fault of a pair is named with its file, its list and what to do; whole sets are in test_nyu.py."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proteus.datasets.depth.checks import check_depths, check_headers
from proteus.datasets.depth.listing import Pair
from proteus.structures import DataError


def pair(folder: Path, name: str, stored: np.ndarray, size: tuple[int, int] = (6, 4)) -> Pair:
    """An image of ``size``, and a depth map of these numbers."""
    image, depth = folder / f"{name}.jpg", folder / f"{name}.png"
    Image.new("RGB", size).save(image)
    Image.fromarray(stored).save(depth)
    return Pair(str(image), str(depth), f"list.txt, line {name}")


def depths(value: int, dtype: type = np.uint16) -> np.ndarray:
    return np.full((4, 6), value, dtype)


def test_good_pairs_pass(tmp_path: Path) -> None:
    pairs = [pair(tmp_path, str(number), depths(2000 + number)) for number in range(3)]
    check_headers(pairs)
    check_depths(pairs, depth_scale=1000)


def test_sizes_that_differ_are_told_with_both_and_counted(tmp_path: Path) -> None:
    pairs = [pair(tmp_path, "1", depths(2000)), *(pair(tmp_path, n, depths(2000), (8, 4)) for n in ("2", "3"))]
    with pytest.raises(
        DataError, match=r"2\.png has 6 x 4 pixels, its image .*2\.jpg 8 x 4 \(list\.txt, line 2\)"
    ) as e:
        check_headers(pairs)
    assert "2 of 3 pairs cannot be used; this is the first" in str(e.value)


def test_eight_bits_are_no_depth(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1\.png"):
        check_headers([pair(tmp_path, "1", depths(200, np.uint8))])


def test_what_is_no_image_is_told(tmp_path: Path) -> None:
    broken = pair(tmp_path, "1", depths(2000))
    Path(broken.image).write_text("no image")
    with pytest.raises(DataError, match=r"cannot read .*1\.jpg \(.*\) \(list\.txt, line 1\)"):
        check_headers([broken])


@pytest.mark.parametrize(
    ("stored", "scale", "likely"), [(2500, 1, 1000), (2500, 100_000, 1000), (640, 1, 256), (12_500, 1000, 5000)]
)
def test_a_scale_that_makes_no_room_is_told_with_a_better_one(
    tmp_path: Path, stored: int, scale: float, likely: int
) -> None:
    with pytest.raises(DataError, match=rf"depth_scale={scale:g} cannot be right.*depth_scale={likely} would make"):
        check_depths([pair(tmp_path, "1", depths(stored))], depth_scale=scale)


def test_invalid_pixels_do_not_count_and_a_map_of_them_is_refused(tmp_path: Path) -> None:
    sparse = depths(0)
    sparse[1, 2] = 3000
    check_depths([pair(tmp_path, "1", sparse)], depth_scale=1000)
    with pytest.raises(DataError, match=r"2\.png \(list\.txt, line 2\) has no valid depth"):
        check_depths([pair(tmp_path, "1", sparse), pair(tmp_path, "2", depths(0))], depth_scale=1000)


def test_a_sample_is_spread_over_the_set(tmp_path: Path) -> None:
    pairs = [pair(tmp_path, str(number), depths(2000)) for number in range(5)]
    Path(pairs[3].depth).unlink()
    check_depths(pairs, depth_scale=1000, sample=3)  # the first, the middle and the last
    check_depths(pairs, depth_scale=1000, sample=0)
    with pytest.raises(DataError, match=r"3\.png"):
        check_depths(pairs, depth_scale=1000, sample=None)
