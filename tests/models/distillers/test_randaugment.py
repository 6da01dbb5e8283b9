"""Against timm's operations on PIL images, on photographs."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import AugmentOp

from proteus.datasets import seeded
from proteus.datasets.packaged import packaged_photographs
from proteus.datasets.transforms.device_rand_augment import Operation, _plain_name, _tell, group_operations
from proteus.models.distillers.randaugment import apply_augment

FILL = (124, 116, 104)
EXACT = (
    *("Equalize", "Invert", "PosterizeIncreasing", "SolarizeIncreasing", "SolarizeAdd", "ColorIncreasing"),
    *("ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing"),
)
MOVING = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    files = packaged_photographs("held-out")[:10]
    return [Image.open(file).convert("RGB").resize((120, 100), Image.Resampling.BICUBIC) for file in files]


def tensors(images: list[Image.Image]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images])


def both(name: str, images: list[Image.Image], resample: Image.Resampling) -> torch.Tensor:
    """Levels between timm's result and ours; magnitudes from weak to the strongest.

    They are no round numbers: where a pixel is read exactly on the border, rounding decides whether there is one.
    """
    wanted, drawn = [], []
    for number, image in enumerate(images):
        options = {"img_mean": FILL, "interpolation": resample}
        operation = AugmentOp(name, prob=1.0, magnitude=10.37 * (number + 0.131) / len(images), hparams=options)
        with seeded(number):
            wanted.append(operation(image))
        operation.aug_fn = partial(_tell, _plain_name(name), image.height, image.width)
        with seeded(number):
            drawn.append(operation([]))
    found = apply_augment(tensors(images), group_operations(drawn))
    return (found.int() - tensors(wanted).int()).abs()


@pytest.mark.parametrize("name", EXACT)
def test_what_changes_colours_is_timms_to_the_bit(photographs: list[Image.Image], name: str) -> None:
    assert both(name, photographs, Image.Resampling.BICUBIC).max() == 0


@pytest.mark.parametrize("resample", [Image.Resampling.BICUBIC, Image.Resampling.BILINEAR])
@pytest.mark.parametrize("name", MOVING)
def test_what_moves_pixels_is_timms_but_for_cut_off_fractions(
    photographs: list[Image.Image], name: str, resample: Image.Resampling
) -> None:
    apart = both(name, photographs, resample)
    assert apart.max() <= 1
    assert (apart > 0).float().mean() < 0.03


def test_autocontrast_is_timms_but_for_cut_off_fractions(photographs: list[Image.Image]) -> None:
    pale = [image.point(lambda level: 60 + level // 3) for image in photographs]
    for images in (photographs, pale):
        apart = both("AutoContrast", images, Image.Resampling.BICUBIC)
        assert apart.max() <= 1
        assert (apart > 0).float().mean() < 0.05


@pytest.mark.parametrize("name", [*EXACT, "AutoContrast"])
def test_images_of_one_colour(name: str) -> None:
    flat = [Image.new("RGB", (9, 7), (level, 255 - level, 7)) for level in (0, 60, 127, 255)]
    assert both(name, flat, Image.Resampling.BICUBIC).max() == 0


def test_operations_follow_one_another_and_leave_other_images_alone() -> None:
    images = torch.arange(3 * 3 * 4 * 4).view(3, 3, 4, 4).to(torch.uint8)
    before = images.clone()
    drawn = [[Operation("Invert", ()), Operation("SolarizeAdd", (100.0,))], [], [Operation("SolarizeAdd", (100.0,))]]
    found = apply_augment(images, group_operations(drawn))
    brighter = lambda level: torch.where(level < 128, (level.int() + 100).clamp(max=255).byte(), level)  # noqa: E731
    assert torch.equal(found[0], brighter(255 - images[0]))
    assert torch.equal(found[1], before[1])
    assert torch.equal(found[2], brighter(images[2]))
    assert torch.equal(images, before)


def test_floats_are_refused() -> None:
    with pytest.raises(TypeError, match=r"torch.float32: write dict\(type='ToTensor', dtype='uint8'\)"):
        apply_augment(torch.zeros(1, 3, 4, 4), group_operations([[Operation("Invert", ())]]))
