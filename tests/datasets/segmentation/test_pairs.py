from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proteus.datasets.segmentation.pairs import check_folders, check_pairs, check_some_labels, readable
from proteus.structures import DataError


def pair(folder: Path, name: str, size: tuple[int, int] = (6, 4), mask: tuple[int, int] = (6, 4)) -> tuple[str, str]:
    Image.new("RGB", size).save(folder / f"{name}.jpg")
    Image.new("L", mask).save(folder / f"{name}.png")
    return str(folder / f"{name}.jpg"), str(folder / f"{name}.png")


def masks(folder: Path) -> list[str]:
    return [str(path) for path in folder.glob("*.png")]


def test_good_pairs_pass(tmp_path: Path) -> None:
    check_pairs([pair(tmp_path, "a"), pair(tmp_path, "b", (3, 9), (3, 9))], masks(tmp_path))


def test_an_image_that_its_camera_turned(tmp_path: Path) -> None:
    files = pair(tmp_path, "a", (6, 4), (4, 6))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4)).save(files[0], exif=exif)
    check_pairs([files], masks(tmp_path))


def test_what_stands_alone_is_named(tmp_path: Path) -> None:
    pairs = [pair(tmp_path, "a"), pair(tmp_path, "b")]
    Path(pairs[1][1]).unlink()
    with pytest.raises(DataError, match=r"1 file does not fit:\n.*b\.jpg: its mask .*b\.png is missing"):
        check_pairs(pairs, masks(tmp_path))
    with pytest.raises(DataError, match=r"a\.png: there is no image to this mask"):
        check_pairs([], masks(tmp_path))


def test_sizes_and_channels(tmp_path: Path) -> None:
    pairs = [pair(tmp_path, f"{number}", (6, 4), (4, 6)) for number in range(7)]
    with pytest.raises(DataError, match=r"7 files do not fit:\n.*0\.png: the mask is 4x6 px.*0\.jpg 6x4\n") as told:
        check_pairs(pairs, masks(tmp_path))
    assert "and 2 more" in str(told.value)
    Image.new("RGB", (6, 4)).save(pairs[3][1])
    with pytest.raises(DataError, match=r"3\.png: the mask has 3 channels \(RGB\)"):
        check_pairs(pairs[3:4], [pairs[3][1]])
    Path(pairs[0][0]).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot read .*0\.jpg \(UnidentifiedImageError: not an image file"):
        check_pairs(pairs[:1], [pairs[0][1]])


@pytest.mark.parametrize(
    ("label", "shift", "wrong"), [(150, 1, False), (151, 1, True), (255, 1, False), (150, 0, True)]
)
def test_labels_of_some_masks(tmp_path: Path, label: int, shift: int, wrong: bool) -> None:
    files = [pair(tmp_path, f"{number}")[1] for number in range(9)]
    Image.fromarray(np.ones((4, 6), np.uint8)).save(files[0])
    Image.fromarray(np.full((4, 6), label, np.uint8)).save(files[-1])  # the last is always read
    if not wrong:
        check_some_labels(files, 3, 150, shift)
        return
    with pytest.raises(DataError, match=rf"8\.png: label {label} in a mask of 150 classes"):
        check_some_labels(files, 3, 150, shift)


def test_the_layout_is_told(tmp_path: Path) -> None:
    folders = {"img_path": str(tmp_path / "images"), "seg_map_path": str(tmp_path / "masks")}
    suffixes = {"img_path": ".jpg", "seg_map_path": ".png"}
    with pytest.raises(DataError, match=r"no such folder: .*images; (.|\n)*masks/\*\.png"):
        check_folders(folders, suffixes, str(tmp_path))
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"no \*\.jpg in .*images"):
        check_folders(folders, suffixes, str(tmp_path))
    Image.new("RGB", (6, 4)).save(tmp_path / "images/a.jpg")
    with pytest.raises(DataError, match=r"no such folder: .*masks"):
        check_folders(folders, suffixes, str(tmp_path))


def test_a_truncated_image_is_not_readable(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    assert readable(str(path)) is None
    path.write_bytes(path.read_bytes()[:-500])
    assert f"cannot read {path} (" in str(readable(str(path)))
