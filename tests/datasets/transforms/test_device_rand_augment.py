import pickle
import random
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from proteus.datasets import DeviceRandAugment, PackInputs, RandAugment, ToTensor, distill_collate, seeded
from proteus.datasets.packaged import packaged_photographs
from proteus.models import DistillDataPreprocessor
from proteus.models.distillers.randaugment import apply_augment

MAGNITUDE = "rand-m9-mstd0.5-inc1"


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    files = packaged_photographs("held-out")[:8]
    return [Image.open(file).convert("RGB").resize((96, 80), Image.Resampling.BICUBIC) for file in files]


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "random"])
def test_the_same_key_gives_the_worker_paths_view(photographs: list[Image.Image], interpolation: str) -> None:
    """Whole views: two operations in a row, of which a second one with steps may make more of one level before it."""
    worker, device = (kind(MAGNITUDE, interpolation=interpolation) for kind in (RandAugment, DeviceRandAugment))
    to_tensor, pack = ToTensor(), PackInputs()
    views, samples, after = [], [], []
    for number in range(160):
        image = photographs[number % len(photographs)]
        with seeded(number):
            views.append(pixels(worker({"img": image})["img"]))
            after.append(random.random())
        with seeded(number):
            samples.append(pack(to_tensor(device({"img": image, "img_path": "x"}))))
            assert random.random() == after[-1]  # and so the same erasing and mask
    batch = distill_collate(samples)
    found = apply_augment(batch["images"], batch["augment"])
    apart = (found.int() - torch.stack(views).int()).abs()
    names = [[operation.name for operation in sample["augment"]] for sample in samples]
    steps = {"Equalize", "Posterize", "Solarize", "SolarizeAdd"}
    smooth = torch.tensor([not steps.intersection(each[1:]) for each in names])
    assert smooth.sum() > 100
    assert apart[smooth].max() <= 4
    assert (apart > 1).float().mean() < 0.002
    assert (apart > 0).float().mean() < 0.01
    assert len({name for each in names for name in each}) >= 11
    assert any(len(each) == 0 for each in names)


def test_where_two_operations_are_drawn_half_of_the_time_each() -> None:
    transform = DeviceRandAugment(MAGNITUDE)
    with seeded(0):
        drawn = [transform.draw(224, 224) for _ in range(4000)]
    share = {count: number / 4000 for count, number in Counter(map(len, drawn)).items()}
    for count, wanted in {0: 0.25, 1: 0.5, 2: 0.25}.items():
        assert abs(share[count] - wanted) < 0.03
    names = Counter(operation.name for each in drawn for operation in each)
    total = names.total()
    # Five of the fifteen move pixels.
    assert abs(names["affine_bicubic"] / total - 5 / 15) < 0.03
    assert all(abs(names[name] / total - 1 / 15) < 0.02 for name in names if name != "affine_bicubic")
    assert len(names) == 11


def test_the_data_preprocessor_augments_before_it_normalises(photographs: list[Image.Image]) -> None:
    with seeded(3):
        sample = PackInputs()(ToTensor()(DeviceRandAugment("rand-m9-n4-p1")({"img": photographs[0], "img_path": "x"})))
    batch = distill_collate([sample, sample])
    found = DistillDataPreprocessor()(dict(batch), training=True)
    assert "augment" not in found
    changed = apply_augment(batch["images"], batch["augment"])
    assert not torch.equal(changed, batch["images"])
    assert torch.equal(found["images"], DistillDataPreprocessor()({"images": changed})["images"])


def test_sizes_of_every_kind_of_image_and_another_process(photographs: list[Image.Image]) -> None:
    transform = DeviceRandAugment("rand-m9-p1-inc1")
    drawn = []
    for image in (photographs[0], np.array(photographs[0]), pixels(photographs[0])):
        with seeded(11):
            drawn.append(pickle.loads(pickle.dumps(transform))({"img": image})["augment"])
    assert drawn[0] == drawn[1] == drawn[2] != []


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"DeviceRandAugment\.policy='original' is no RandAugment"):
        DeviceRandAugment("original")
    with pytest.raises(ValueError, match="GaussianBlur cannot be applied on the device; write type='RandAugment'"):
        DeviceRandAugment("rand-m9-t3a")
    with pytest.raises(ValueError, match="interpolation='nearest'"):
        DeviceRandAugment(interpolation="nearest")
