import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform

from proteus.datasets import TimmRandAugment, seeded
from proteus.datasets.packaged import packaged_photographs


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return Image.open(packaged_photographs("held-out")[0]).convert("RGB").resize((96, 96), Image.Resampling.BICUBIC)


def test_pil_images_match_timm(photograph: Image.Image) -> None:
    """The transform that timm's create_transform builds for ImageNet statistics and bicubic interpolation."""
    options = {"translate_const": 43, "img_mean": (124, 116, 104), "interpolation": Image.Resampling.BICUBIC}
    released, ours = rand_augment_transform("rand-m9-mstd0.5-inc1", options), TimmRandAugment()
    for number in range(60):
        with seeded(number):
            wanted = released(photograph)
        with seeded(number):
            found = ours({"img": photograph})["img"]
        assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("interpolation", ["bicubic", "random"])
def test_arrays_get_the_same_draws(photograph: Image.Image, interpolation: str) -> None:
    ours, changed = TimmRandAugment(interpolation=interpolation), 0
    for number in range(150):
        results, after = [], []
        for image in (photograph, np.array(photograph)):
            with seeded(number):
                results.append(ours({"img": image})["img"])
                after.append((random.random(), np.random.random(), float(torch.rand(1))))
        wanted, found = np.array(results[0]).astype(int), results[1]
        assert after[0] == after[1]
        assert (found.dtype, found.shape) == (np.uint8, (96, 96, 3))
        assert np.abs(found - wanted).mean() < 6
        changed += not np.array_equal(found, np.array(photograph))
    assert 0.5 < changed / 150 < 0.9


def test_operations_without_array_version_use_pil(photograph: Image.Image) -> None:
    """The operations of DeiT III include blur and greyscale."""
    ours = TimmRandAugment("rand-m9-n3-mstd0.5-inc1-p1.0-t3a")
    for number in range(20):
        with seeded(number):
            wanted = np.array(ours({"img": photograph})["img"])
        with seeded(number):
            found = ours({"img": np.array(photograph)})["img"]
        assert np.array_equal(found, wanted)


def test_pickling(photograph: Image.Image) -> None:
    ours = TimmRandAugment()
    for image in (photograph, np.array(photograph)):
        with seeded(3):
            wanted = np.array(ours({"img": image})["img"])
        with seeded(3):
            assert np.array_equal(np.array(pickle.loads(pickle.dumps(ours))({"img": image})["img"]), wanted)


def test_invalid_arguments() -> None:
    with pytest.raises(ValueError, match=r"TimmRandAugment\.policy='augmix-m3'"):
        TimmRandAugment("augmix-m3")
    with pytest.raises(ValueError, match=r"TimmRandAugment\.interpolation='lanczos'"):
        TimmRandAugment(interpolation="lanczos")
