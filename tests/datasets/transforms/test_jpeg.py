"""The fast decoder gives PIL's pixels, and leaves unreadable files to PIL."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from proteus.datasets.transforms import jpeg


def encoded(mode: str = "RGB", size: tuple[int, int] = (90, 61), kind: str = "JPEG", **options: object) -> bytes:
    generator = np.random.default_rng(0)
    image = Image.fromarray(generator.integers(0, 255, (8, 10, 3), dtype=np.uint8))
    file = BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).convert(mode).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("by", [1, 2, 4, 8])
@pytest.mark.parametrize("content", [encoded(), encoded("L"), encoded(progressive=True, subsampling="4:4:4")])
def test_pixels_match_pil(content: bytes, by: int) -> None:
    height, width = jpeg.read_size(content)
    assert (height, width) == (61, 90)
    with Image.open(BytesIO(content)) as image:
        if by > 1:
            image.draft("RGB" if image.mode == "RGB" else image.mode, (width // by, height // by))
        expected = np.array(image.convert("RGB"))
    found = jpeg.decode(content, height, width, by)
    assert found.shape == (-(-61 // by), -(-90 // by), 3)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("content", [encoded("CMYK"), encoded(kind="PNG"), b"", b"\xff\xd8", encoded()[:20]])
def test_other_files_give_none(content: bytes) -> None:
    assert jpeg.read_size(content) is None


def test_truncated_files_give_none() -> None:
    content = encoded()
    assert jpeg.decode(content[: len(content) // 2], 61, 90, 1) is None


def test_images_too_large_for_pil_give_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 61 * 90 // 2 - 1)
    assert jpeg.read_size(encoded()) is None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 61 * 90 // 2 + 1)
    assert jpeg.read_size(encoded()) == (61, 90)


@pytest.mark.parametrize(
    ("box", "by"),
    [
        ((0, 0, 223, 900), 1),
        ((5, 5, 452, 453), 1),
        ((5, 5, 453, 453), 2),
        ((0, 0, 1791, 3000), 4),
        ((0, 0, 1792, 1792), 8),
    ],
)
def test_reduced_boxes_have_at_least_the_size(box: tuple[int, ...], by: int) -> None:
    assert jpeg.reduction(box, 224) == by
