import numpy as np
import pytest
from PIL import Image

from proteus.datasets import (
    CenterCrop,
    RandomFlip,
    RandomResizedCrop,
    ResizeEdge,
    ResizeSquare,
    TimmRandAugment,
    seeded,
)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


def test_sizes() -> None:
    assert RandomResizedCrop(56)({"img": noise(90, 70)})["img"].size == (56, 56)
    assert ResizeEdge(64)({"img": noise(96, 72)})["img"].size == (85, 64)
    assert ResizeEdge(48, edge="long")({"img": noise(96, 72)})["img"].size == (48, 36)
    assert CenterCrop(50)({"img": noise(96, 72)})["img"].size == (50, 50)


def test_unknown_edges_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ResizeEdge\.edge='width': write 'short' or 'long'"):
        ResizeEdge(64, edge="width")  # type: ignore[arg-type]


def test_center_crop() -> None:
    image = np.zeros((6, 8, 3), np.uint8)
    image[2:4, 3:5] = 200
    assert (np.asarray(CenterCrop(2)({"img": Image.fromarray(image)})["img"]) == 200).all()


def test_flip() -> None:
    image = noise(8, 6)
    assert np.array_equal(np.asarray(RandomFlip(1.0)({"img": image})["img"]), np.asarray(image)[:, ::-1])
    assert np.array_equal(np.asarray(RandomFlip(0.0)({"img": image})["img"]), np.asarray(image))


def test_rand_augment_never_fails_and_keeps_the_size() -> None:
    """Includes posterizing to 0 bits, which Pillow 13 refuses."""
    transform, image = TimmRandAugment(), noise(56, 56)
    changed = 0
    for number in range(600):
        with seeded(number):
            found = transform({"img": image})["img"]
        assert (found.size, found.mode) == ((56, 56), "RGB")
        changed += not np.array_equal(np.asarray(found), np.asarray(image))
    assert 0.5 < changed / 600 < 0.9  # two operations, each applied half of the time: at most 3 / 4


def test_rand_augment_fills_with_the_mean() -> None:
    assert TimmRandAugment().fill == (124, 116, 104)


def test_outputs_depend_only_on_the_seed() -> None:
    image = noise(56, 56)
    for transform in (TimmRandAugment(), RandomResizedCrop(28), RandomFlip()):
        views = []
        for number in (1, 1, *range(2, 12)):
            with seeded(number):
                views.append(np.asarray(transform({"img": image})["img"]).tobytes())
        assert views[0] == views[1]
        assert len(set(views)) > 1


def test_resize_square_keeps_the_whole_image() -> None:
    image = Image.fromarray(np.repeat(np.arange(0, 240, 40, dtype=np.uint8)[None], 3, 0)).convert("RGB")
    square = np.asarray(ResizeSquare(12)({"img": image})["img"])
    assert square.shape == (12, 12, 3)
    assert (square[:, 0] == 0).all()
    assert (square[:, -1] == 200).all()
