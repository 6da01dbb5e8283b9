"""Parts of the decoder; every kind of file through every loader is in tests/campaign/test_image_kinds.py."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from proteus.structures import CorruptImageError, DataError
from proteus.utils.image_files import opened
from proteus.utils.images import UPRIGHT, open_rgb, to_rgb, turn_of, upright_size


def encoded(orientation: int, kind: str = "PNG") -> bytes:
    """Noise of 7 x 5 pixels as stored, with an orientation."""
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_of_images_arrays_and_boxes_agree(orientation: int) -> None:
    content = encoded(orientation)
    with opened(content) as image:
        stored, turn = np.asarray(to_rgb(image)), turn_of(image)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(content))).convert("RGB"))
    assert np.array_equal(np.asarray(open_rgb(content)), upright)
    assert np.array_equal(turn.array(stored), upright)
    assert upright_size(content) == turn.size(7, 5) == upright.shape[1::-1]
    left, top, right, bottom = box = (1, 0, 4, 3)
    found = turn.box(box, 7, 5)
    cut = turn.array(stored[found[1] : found[3], found[0] : found[2]])
    assert np.array_equal(cut, upright[top:bottom, left:right])


def test_what_is_read_cannot_be_turned_twice(tmp_path: Path) -> None:
    image = open_rgb(encoded(6))
    assert image.info == {}
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(image)), np.asarray(image))
    image.save(tmp_path / "a.png")
    assert upright_size(tmp_path / "a.png") == image.size


def test_a_refusal_inside_the_block_passes_and_anything_else_is_the_files_fault() -> None:
    with pytest.raises(DataError, match="mine"), opened(encoded(1), "a.png"):
        raise DataError("mine")
    with pytest.raises(CorruptImageError, match=r"^a\.png \(KeyError: 3\)$"), opened(encoded(1), "a.png"):
        raise KeyError(3)
    with pytest.raises(MemoryError), opened(encoded(1), "a.png"):
        raise MemoryError


@pytest.mark.parametrize("path", ["", "nowhere.png", ".", "zero\0byte.png"])
def test_what_cannot_be_opened_is_named(path: str) -> None:
    with pytest.raises(CorruptImageError, match=r"\((FileNotFoundError|IsADirectoryError|ValueError|PermissionError)"):
        open_rgb(path)


def test_an_image_above_the_limit_of_pillow_is_named_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (60, 50)).save(tmp_path / "map.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1499)
    with pytest.raises(CorruptImageError, match=r"map\.png \(.*: more than 2,998 pixels; cut it into tiles\)$"):
        open_rgb(tmp_path / "map.png")


def test_upright_images_are_not_copied_for_nothing() -> None:
    with opened(encoded(1)) as image:
        assert turn_of(image) is UPRIGHT


@pytest.mark.parametrize(("side", "size"), [(None, (7, 5)), (5, (7, 5)), (9, (7, 5)), (4, (6, 4)), (1, (1, 1))])
def test_the_shorter_side(side: int | None, size: tuple[int, int]) -> None:
    assert open_rgb(encoded(1), short_side=side).size == size
    assert open_rgb(encoded(6), short_side=side).size == size[::-1]
