import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from proteus.datasets import RandomFlip, RandomResizedCrop, seeded
from proteus.datasets.packaged import packaged_photographs
from proteus.datasets.transforms.crops import CropBox, crop_and_resize


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return Image.open(packaged_photographs("held-out")[0]).convert("RGB").resize((500, 375), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (90, 700), (224, 224), (30, 20)])
def test_boxes_match_torchvision(size: tuple[int, int]) -> None:
    """Includes sizes for which ten draws fail and the center is used."""
    image, box = Image.new("L", size), CropBox(224, (0.08, 1.0), (3 / 4, 4 / 3))
    for number in range(100):
        with seeded(number):
            top, left, height, width = v2.RandomResizedCrop(224).make_params([image]).values()
            state = torch.get_rng_state()
        with seeded(number):
            assert box.draw(size[1], size[0]) == (left, top, left + width, top + height)
            assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos", "nearest"])
def test_crops_of_pil_images_match_torchvision(photograph: Image.Image, interpolation: str) -> None:
    theirs = v2.RandomResizedCrop(64, interpolation=v2.InterpolationMode(interpolation))
    ours = RandomResizedCrop(64, interpolation=interpolation)
    for number in range(20):
        with seeded(number):
            wanted = theirs(photograph)
        with seeded(number):
            assert ours({"img": photograph})["img"].tobytes() == wanted.tobytes()


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
def test_crops_of_arrays_match_pil(photograph: Image.Image, interpolation: str) -> None:
    crop = RandomResizedCrop(224, interpolation=interpolation)
    for number in range(30):
        with seeded(number):
            wanted = np.array(crop({"img": photograph})["img"]).astype(int)
        with seeded(number):
            found = crop({"img": np.array(photograph)})["img"]
        assert (found.dtype, found.shape, found.flags.c_contiguous) == (np.uint8, (224, 224, 3), True)
        apart = np.abs(found - wanted)
        if interpolation == "lanczos":  # PIL itself
            assert apart.max() == 0
        assert apart.mean() < 0.4
        assert apart.max() <= 12


def test_pixels_outside_the_box_are_not_blended_in() -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:20, 30:50] = 255
    for box in ((30, 10, 50, 20), (30.25, 10.5, 49.5, 19.75)):
        assert (crop_and_resize(pixels, box, 8, "bicubic") == 255).all()


def test_fractional_boxes() -> None:
    """A ramp shows the positions of the samples."""
    pixels = np.tile(np.arange(200, dtype=np.uint8)[:, None], (50, 1, 3))
    found = crop_and_resize(pixels, (20.5, 3.5, 180.5, 43.5), 16, "bicubic")[8, 1:-1, 0]
    assert found.astype(float) == pytest.approx(20 + 10 * np.arange(1, 15) + 5, abs=1)


def test_flips_match_torchvision(photograph: Image.Image) -> None:
    theirs, ours = v2.RandomHorizontalFlip(0.5), RandomFlip(0.5)
    for number in range(20):
        results = []
        for transform in (theirs, lambda image: ours({"img": image})["img"]):
            with seeded(number):
                results.append(np.array(transform(photograph)))
        with seeded(number):
            results.append(ours({"img": np.array(photograph)})["img"])
        assert np.array_equal(results[0], results[1])
        assert np.array_equal(results[0], results[2])


def test_unknown_interpolations_are_refused() -> None:
    with pytest.raises(ValueError, match=r"RandomResizedCrop\.interpolation='cubic'"):
        RandomResizedCrop(8, interpolation="cubic")
