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


def test_rotated_photographs(tmp_path: Path) -> None:
    files = pair(tmp_path, "a", (6, 4), (4, 6))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4)).save(files[0], exif=exif)
    check_pairs([files], masks(tmp_path))


def test_unpaired_files_are_named(tmp_path: Path) -> None:
    pairs = [pair(tmp_path, "a"), pair(tmp_path, "b")]
    Path(pairs[1][1]).unlink()
    with pytest.raises(DataError, match=r"1 file does not fit:\n.*b\.jpg: its mask .*b\.png is missing"):
        check_pairs(pairs, masks(tmp_path))
    with pytest.raises(DataError, match=r"a\.png: the image of this mask is missing"):
        check_pairs([], masks(tmp_path))


def test_sizes_and_channels(tmp_path: Path) -> None:
    pairs = [pair(tmp_path, f"{number}", (6, 4), (4, 6)) for number in range(7)]
    with pytest.raises(
        DataError, match=r"7 files do not fit:\n.*0\.png: the mask is 4x6 px.*0\.jpg is 6x4\n"
    ) as caught:
        check_pairs(pairs, masks(tmp_path))
    assert "and 2 more" in str(caught.value)
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


def test_a_set_may_ignore_another_label_than_255(tmp_path: Path) -> None:
    check_some_labels(write_masks(tmp_path, [1, 12]), 3, 11, 1, ignore_index=11)  # counted as the classes are
    files = write_masks(tmp_path, [0, 1, 11], [2, 11])
    check_some_labels(files, 3, 11, 0, ignore_index=11)
    with pytest.raises(DataError, match=r"label 11 in a mask of 11 classes \(known: 0 to 10, 255 to ignore\)"):
        check_some_labels(files, 3, 11, 0)
    with pytest.raises(DataError, match=r"label 255 .* \(known: 0 to 10, 11 to ignore\)"):
        check_some_labels(write_masks(tmp_path, [1, 255]), 3, 11, 0, ignore_index=11)
    with pytest.raises(DataError, match=r"is ignored \(11\)"):
        check_some_labels(write_masks(tmp_path, [11, 11]), 3, 11, 0, ignore_index=11)
    with pytest.raises(DataError, match="every pixel"):  # classes that are not selected become 255 all the same
        check_some_labels(write_masks(tmp_path, [7, 9]), 32, 2, 0, {7: 255, 9: -1}, ignore_index=11)


def test_errors_show_the_layout(tmp_path: Path) -> None:
    folders = {"img_path": str(tmp_path / "images"), "seg_map_path": str(tmp_path / "masks")}
    suffixes = {"img_path": ".jpg", "seg_map_path": ".png"}
    with pytest.raises(DataError, match=r"no folder .*images; (.|\n)*masks/\*\.png"):
        check_folders(folders, suffixes, str(tmp_path))
    (tmp_path / "images").touch()
    with pytest.raises(DataError, match=r"images is a file, not a folder"):
        check_folders(folders, suffixes, str(tmp_path))
    (tmp_path / "images").unlink()
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"no \*\.jpg in .*images"):
        check_folders(folders, suffixes, str(tmp_path))
    Image.new("RGB", (6, 4)).save(tmp_path / "images/a.jpg")
    with pytest.raises(DataError, match=r"no folder .*masks"):
        check_folders(folders, suffixes, str(tmp_path))


def test_truncated_images_are_not_readable(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    assert readable(str(path)) is None
    path.write_bytes(path.read_bytes()[:-500])
    assert f"cannot read {path} (" in str(readable(str(path)))


def write_masks(folder: Path, *values: list[int], dtype: type = np.uint8) -> list[str]:
    """Write a mask for each list of labels, with 2 pixels per label."""
    for number, labels in enumerate(values):
        Image.fromarray(np.array([labels, labels], dtype)).save(folder / f"{number}.png")
    return [str(folder / f"{number}.png") for number in range(len(values))]


def test_masks_of_0_and_255_are_refused_before_training(tmp_path: Path) -> None:
    files = write_masks(tmp_path, [0, 255], [255, 255], [0, 0])
    for shift in (0, 1):
        words = rf"3 masks that were read \(.*0\.png is the first\): only 0 and 255.*such as {shift} and {shift + 1}"
        with pytest.raises(DataError, match=words):
            check_some_labels(files, 32, 150, shift)
    check_some_labels(write_masks(tmp_path, [0, 255], [1, 0]), 32, 2, 0)


def test_completely_ignored_masks_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"every pixel of the 2 masks that were read .* is ignored \(255\): .* 0 to 149"
    ):
        check_some_labels(write_masks(tmp_path, [255], [255]), 32, 150, 0)
    zeros = write_masks(tmp_path, [0], [0])
    with pytest.raises(DataError, match=r"ignored \(255 or 0, which is not a class here \(reduce_zero_label\)\)"):
        check_some_labels(zeros, 32, 150, 1)
    check_some_labels(zeros, 32, 150, 0)  # a single class is only logged
    with pytest.raises(DataError, match="every pixel of the mask that was read"):
        check_some_labels(write_masks(tmp_path, [7, 9]), 32, 2, 0, {7: 255, 9: -1})
    check_some_labels(write_masks(tmp_path, [7, 9]), 32, 2, 0, {7: 255, 9: 0})


def test_classes_are_selected_after_the_shift(tmp_path: Path) -> None:
    selected = dict.fromkeys(range(150), 255) | {12: 0, 20: 1}
    for label in (13, 21):
        check_some_labels(write_masks(tmp_path, [0, label]), 32, 2, 1, selected)
    for label in (12, 20):
        with pytest.raises(DataError, match="every pixel of the mask that was read"):
            check_some_labels(write_masks(tmp_path, [0, label]), 32, 2, 1, selected)


def test_labels_beyond_8_bits_are_read_as_stored(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"0\.png: label 300 in a mask of 150 classes"):
        check_some_labels(write_masks(tmp_path, [1, 300], dtype=np.uint16), 32, 150, 0)


def test_orientations_of_masks_and_images(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image, mask = pair(tmp_path, "a")
    Image.new("L", (6, 4)).save(mask, exif=exif)
    with pytest.raises(DataError, match=r"a\.png: the mask has an EXIF orientation.*save it upright and without EXIF"):
        check_pairs([(image, mask)], [mask])
    image, mask = pair(tmp_path, "a")
    Image.new("RGB", (6, 4)).save(image, exif=exif)
    with pytest.raises(
        DataError, match=r"mask is 6x4 px, but its image .*a\.jpg is 4x6 \(turned by its EXIF orientation\)"
    ):
        check_pairs([(image, mask)], [mask])


def test_files_added_by_macos_are_ignored(tmp_path: Path) -> None:
    folders = {"img_path": str(tmp_path / "i"), "seg_map_path": str(tmp_path / "m")}
    for name in ("i/._a.jpg", "m/._a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"no \*\.jpg in"):
        check_folders(folders, {"img_path": ".jpg", "seg_map_path": ".png"}, None)
