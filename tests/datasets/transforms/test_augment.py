import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from proteus.datasets import (
    CenterCrop,
    PackInputs,
    RandAugment,
    RandomErasing,
    RandomFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
    seeded,
)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


def test_sizes() -> None:
    assert RandomResizedCrop(56)({"img": noise(90, 70)})["img"].size == (56, 56)
    assert Resize(64)({"img": noise(96, 72)})["img"].size == (85, 64)
    assert CenterCrop(50)({"img": noise(96, 72)})["img"].size == (50, 50)


def test_the_middle_is_cut_out() -> None:
    image = np.zeros((6, 8, 3), np.uint8)
    image[2:4, 3:5] = 200
    assert (np.asarray(CenterCrop(2)({"img": Image.fromarray(image)})["img"]) == 200).all()


def test_flip() -> None:
    image = noise(8, 6)
    assert np.array_equal(np.asarray(RandomFlip(1.0)({"img": image})["img"]), np.asarray(image)[:, ::-1])
    assert np.array_equal(np.asarray(RandomFlip(0.0)({"img": image})["img"]), np.asarray(image))


def test_randaugment_never_fails_and_keeps_the_size() -> None:
    """Among them the posterizing to 0 bits that Pillow 13 refuses."""
    transform, image = RandAugment(), noise(56, 56)
    changed = 0
    for number in range(600):
        with seeded(number):
            found = transform({"img": image})["img"]
        assert (found.size, found.mode) == ((56, 56), "RGB")
        changed += not np.array_equal(np.asarray(found), np.asarray(image))
    assert 0.5 < changed / 600 < 0.9  # two operations, each applied half of the time: at most 3 / 4


def test_randaugment_paints_with_the_mean() -> None:
    assert RandAugment().fill == (124, 116, 104)


def test_a_function_of_the_seed() -> None:
    image = noise(56, 56)
    for transform in (RandAugment(), RandomResizedCrop(28), RandomFlip()):
        views = []
        for number in (1, 1, *range(2, 12)):
            with seeded(number):
                views.append(np.asarray(transform({"img": image})["img"]).tobytes())
        assert views[0] == views[1]
        assert len(set(views)) > 1


def test_erasing_is_noise_after_normalisation_and_touches_nothing_else() -> None:
    mean, std = (torch.tensor(s).view(3, 1, 1) for s in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    transform = RandomErasing(prob=1.0)
    erased = []
    for number in range(60):
        with seeded(number):
            image = torch.rand(3, 56, 56)
            found = transform({"img": image.clone()})["img"]
        touched = (found != image).any(0)
        rows, columns = touched.any(1).nonzero(), touched.any(0).nonzero()
        block = touched[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert block.all()  # one rectangle
        assert 0.015 < block.numel() / 56**2 < 0.35
        erased.append(((found - mean) / std)[:, touched].flatten())
    values = torch.cat(erased)
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02
    assert abs((values.abs() < 1).float().mean() - 0.6827) < 0.01


def test_erasing_now_and_then() -> None:
    image = torch.rand(3, 28, 28)
    touched = 0
    for number in range(400):
        with seeded(number):
            touched += not torch.equal(RandomErasing(prob=0.25)({"img": image.clone()})["img"], image)
    assert 0.17 < touched / 400 < 0.33
    assert torch.equal(RandomErasing(prob=0.0)({"img": image.clone()})["img"], image)


def test_to_tensor_and_packing() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[1, 2] = (255, 51, 0)
    results = ToTensor()({"img": Image.fromarray(image), "img_path": "x.png"})
    assert results["img"].shape == (3, 4, 6)
    assert results["img"][:, 1, 2].tolist() == pytest.approx([1.0, 0.2, 0.0])
    packed = PackInputs()(results)
    assert set(packed) == {"image", "meta"}
    assert packed["meta"] == {"img_path": "x.png"}
    results["mask"] = torch.ones(4, dtype=torch.bool)
    assert PackInputs()(results)["mask"].all()
