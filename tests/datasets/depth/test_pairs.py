"""Lists of pairs and the checks of their files; complete sets are tested in test_nyu.py."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proteus.datasets.depth.pairs import (
    Line,
    Pair,
    check_depths,
    check_headers,
    list_folders,
    parse_split,
    read_split_file,
)
from proteus.structures import DataError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_parsed_lines() -> None:
    text = "/a/1.jpg /a/1.png 518.8579\n\n  b/2.jpg\tb/2.png \nc/3.jpg None 518.8579\n"
    assert parse_split(text, "train.txt") == (
        [
            Line("/a/1.jpg", "/a/1.png", "518.8579", "train.txt, line 1"),
            Line("b/2.jpg", "b/2.png", "", "train.txt, line 3"),
        ],
        1,
    )


@pytest.mark.parametrize("line", ["a.jpg", "a.jpg a.png focal", "a.jpg a.png 1 2"])
def test_malformed_lines_are_reported_by_number(line: str) -> None:
    with pytest.raises(DataError, match=r"train\.txt, line 2: .* is not IMAGE DEPTH FOCAL"):
        parse_split(f"a.jpg a.png\n{line}\n", "train.txt")


def test_names_may_start_with_a_slash(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("a/1.jpg", "a/1.png", "b/2.jpg", "b/2.png")))
    (tmp_path / "train.txt").write_text("b/2.jpg b/2.png\n/a/1.jpg /a/1.png\nc.jpg None\n")
    pairs, without = read_split_file(tmp_path / "train.txt", tmp_path)
    assert [Path(found.image).name for found in pairs] == ["1.jpg", "2.jpg"]  # sorted, as the toolbox does it
    assert without == 1
    assert pairs[0] == Pair(str(tmp_path / "a/1.jpg"), str(tmp_path / "a/1.png"), f"{tmp_path / 'train.txt'}, line 2")


@pytest.mark.parametrize(
    "name", ["../a.png", "/../a.png", "b/../../a.png", "\\..\\a.png", "b\\..\\..\\a.png", "C:\\a.png", "c:/a.png"]
)
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "set"
    touch(root / "a.jpg", root / "b/a.png", tmp_path / "a.png")
    for line in (f"a.jpg {name}", f"{name} b/a.png"):
        (root / "train.txt").write_text(f"a.jpg b/a.png\n{line}\n")
        with pytest.raises(
            DataError, match=r"train\.txt, line 2: '.*' leads out of the folder of the set; write a path"
        ):
            read_split_file(root / "train.txt", root)


def test_missing_files_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "1.jpg")
    (tmp_path / "train.txt").write_text("1.jpg 1.png\n2.jpg 2.png\n")
    with pytest.raises(DataError, match=r"1\.png is missing \(.*line 1\), and 2 more files"):
        read_split_file(tmp_path / "train.txt", tmp_path)


def test_binary_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match=r"train\.txt is not a text file"):
        read_split_file(tmp_path / "train.txt", tmp_path)


def test_parallel_folders(tmp_path: Path) -> None:
    images, depths = tmp_path / "images", tmp_path / "depths"
    touch(images / "b.jpg", images / "x/a.JPG", images / "notes.txt", depths / "b.png", depths / "x/a.png")
    pairs = list_folders(images, depths)
    assert [(Path(p.image).name, Path(p.depth).relative_to(depths).as_posix()) for p in pairs] == [
        ("b.jpg", "b.png"),
        ("a.JPG", "x/a.png"),
    ]
    (depths / "x/a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png is missing \(for .*a\.JPG\)"):
        list_folders(images, depths)


def pair(folder: Path, name: str, stored: np.ndarray, size: tuple[int, int] = (6, 4)) -> Pair:
    """Write an image of ``size`` and a depth map with these values."""
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


def test_different_sizes_are_reported_and_counted(tmp_path: Path) -> None:
    pairs = [pair(tmp_path, "1", depths(2000)), *(pair(tmp_path, n, depths(2000), (8, 4)) for n in ("2", "3"))]
    with pytest.raises(
        DataError, match=r"2\.png has 6 x 4 pixels, but its image .*2\.jpg has 8 x 4 \(list\.txt, line 2\)"
    ) as e:
        check_headers(pairs)
    assert "2 of 3 pairs cannot be used; this is the first" in str(e.value)


def test_eight_bit_depth_maps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1\.png"):
        check_headers([pair(tmp_path, "1", depths(200, np.uint8))])


def test_files_that_are_not_images_are_reported(tmp_path: Path) -> None:
    broken = pair(tmp_path, "1", depths(2000))
    Path(broken.image).write_text("not an image")
    with pytest.raises(DataError, match=r"cannot read .*1\.jpg \(.*\) \(list\.txt, line 1\)"):
        check_headers([broken])


@pytest.mark.parametrize(
    ("stored", "scale", "likely"), [(2500, 1, 1000), (2500, 100_000, 1000), (640, 1, 256), (12_500, 1000, 5000)]
)
def test_implausible_scales_are_reported_with_a_better_one(
    tmp_path: Path, stored: int, scale: float, likely: int
) -> None:
    with pytest.raises(DataError, match=rf"depth_scale={scale:g} is implausible.*depth_scale={likely} would make"):
        check_depths([pair(tmp_path, "1", depths(stored))], depth_scale=scale)


def test_invalid_pixels_are_ignored_and_maps_without_valid_pixels_refused(tmp_path: Path) -> None:
    sparse = depths(0)
    sparse[1, 2] = 3000
    check_depths([pair(tmp_path, "1", sparse)], depth_scale=1000)
    with pytest.raises(DataError, match=r"2\.png \(list\.txt, line 2\) has no valid depth"):
        check_depths([pair(tmp_path, "1", sparse), pair(tmp_path, "2", depths(0))], depth_scale=1000)


def test_sampled_maps_are_evenly_spaced(tmp_path: Path) -> None:
    pairs = [pair(tmp_path, str(number), depths(2000)) for number in range(5)]
    Path(pairs[3].depth).unlink()
    check_depths(pairs, depth_scale=1000, sample=3)  # the first, the middle and the last
    check_depths(pairs, depth_scale=1000, sample=0)
    with pytest.raises(DataError, match=r"3\.png"):
        check_depths(pairs, depth_scale=1000, sample=None)
