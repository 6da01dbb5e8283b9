"""Compare operations on arrays with timm's on PIL images, on photographs and with timm's draws."""

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from timm.data import auto_augment

from proteus.datasets.packaged import packaged_photographs
from proteus.datasets.transforms.rand_augment_cv2 import ARRAY_OPS

FILL = (124, 116, 104)
ROUNDED = ("Contrast", "Color", "Sharpness", "Translate")
WARPED = ("Rotate", "Shear")


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    paths: list[Path] = packaged_photographs("held-out")[::4]
    square = [Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC) for path in paths]
    return [*square, square[0].crop((0, 0, 224, 160)), Image.new("RGB", (20, 16), (7, 7, 250))]


def both(name: str, image: Image.Image, magnitude: float, seed: int, **hparams) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for function, given in ((auto_augment.NAME_TO_OP[name], image), (ARRAY_OPS[name], np.array(image))):
        options = {"translate_const": 100, "img_mean": FILL, "interpolation": Image.Resampling.BICUBIC, **hparams}
        operation = auto_augment.AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=options)
        operation.aug_fn = function
        random.seed(seed)
        before = np.array(given)
        found.append(np.array(operation(given)).astype(int))
        assert np.array_equal(np.array(given), before)  # the input is unchanged
        found.append(random.random())
    assert found[1] == found[3]  # the same number of draws
    return found[0], found[2]


@pytest.mark.parametrize("name", ARRAY_OPS)
def test_operations_match_timm_with_pil(name: str, photographs: list[Image.Image]) -> None:
    for seed, image in enumerate(photographs):
        for magnitude in (0, 3, 7.3, 9, 10):
            wanted, found = both(name, image, magnitude, seed)
            assert found.shape == wanted.shape
            apart = np.abs(found - wanted)
            if name.startswith(ROUNDED):
                assert apart.max() <= 1
            elif name.startswith(WARPED):
                # The kernel has a = -0.75 instead of -1, and the edge is blended with the fill over one pixel;
                # the image of 20 x 16 is mostly edge.
                if min(image.size) > 100:
                    assert apart.mean() < 2
                    assert (apart > 16).mean() < 0.03
            else:
                assert apart.max() == 0


@pytest.mark.parametrize("name", ["Rotate", "ShearX", "ShearY"])
def test_warps_are_not_off_by_half_a_pixel(name: str, photographs: list[Image.Image]) -> None:
    """An offset of half a pixel would show; the fill is where PIL's is."""
    ramp = np.stack([np.tile(np.arange(224), (224, 1)), np.tile(np.arange(224)[:, None], (1, 224))], 2)
    image = Image.fromarray(np.dstack([ramp, np.full((224, 224), 200)]).astype(np.uint8))
    for seed in range(4):
        wanted, found = both(name, image, 9, seed)
        inside = (wanted[..., 2] == 200) & (found[..., 2] == 200)
        assert inside.mean() > 0.6
        assert np.abs(found - wanted)[inside].mean() < 0.51  # PIL truncates, OpenCV rounds
        assert ((wanted == FILL).all(2) == (found == FILL).all(2)).mean() > 0.98


@pytest.mark.parametrize("name", ["Rotate", "ShearX", "TranslateXRel", "TranslateY"])
def test_one_of_several_interpolations_is_drawn(name: str, photographs: list[Image.Image]) -> None:
    choices = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
    for seed in range(6):
        wanted, found = both(name, photographs[0], 9, seed, interpolation=choices)
        assert np.abs(found - wanted).mean() < 1.5


@pytest.mark.parametrize("share", [-1.2, -0.5, -0.004, 0.0, 0.002, 0.3, 1.0])
def test_shifts_up_to_and_beyond_the_image(share: float, photographs: list[Image.Image]) -> None:
    options = {"fillcolor": FILL, "resample": Image.Resampling.BICUBIC}
    for name in ("TranslateXRel", "TranslateYRel"):
        wanted = np.array(auto_augment.NAME_TO_OP[name](photographs[0], share, **options)).astype(int)
        assert np.abs(ARRAY_OPS[name](np.array(photographs[0]), share, **options) - wanted).max() <= 1
