from __future__ import annotations

import pickle
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from runs import write_images
from torch.utils.data import DataLoader

from proteus.datasets import FixedViews, ImageFolder, ProxySampler, ResolutionBatchSampler, SampleKey, distill_collate

STAGES = [dict(size=28, end=2, batch_size=6), dict(grow_from=28, size=56, end=5), dict(size=(28, 84))]
STEPS = [
    dict(type="proteus.LoadRandomResizedCrop", scale=56),
    dict(type="proteus.TimmRandAugment"),
    dict(type="proteus.ToTensor"),
    dict(type="proteus.RandomErasing", erase_prob=1.0),
    dict(type="proteus.UniformMask", ratio=0.5),
    dict(type="proteus.PackInputs"),
]
SIZES = [(28, 28), (28, 28), (28, 28), (42, 42), (56, 56), (28, 84), (28, 84)]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("set"), 12)


def sampler(size: int = 12, start: int = 0) -> ResolutionBatchSampler:
    made = ResolutionBatchSampler(ProxySampler(range(size), seed=3), 4, STAGES)
    made.skip(start)
    return made


def batches(count: int, **options: Any) -> list[list[tuple[Any, ...]]]:
    return [[(*key.parts, key.size) for key in batch] for batch in islice(sampler(**options), count)]


def test_batches_divide_the_stream_of_the_sampler() -> None:
    found = batches(8)
    assert [len(batch) for batch in found] == [6, 6, 4, 4, 4, 4, 4, 4]
    assert [{key[-1] for key in batch} for batch in found] == [{size} for size in [*SIZES, (28, 84)]]
    stream = [key.parts for key in islice(ProxySampler(range(12), seed=3), 36)]
    assert [key[:4] for batch in found for key in batch] == stream


@pytest.mark.parametrize("start", [1, 2, 3, 4, 7])
def test_skipping_iterations_is_dropping_batches(start: int) -> None:
    assert batches(4, start=start) == batches(start + 4)[start:]


def test_one_stage_gives_the_batches_of_a_run_without_a_schedule() -> None:
    keys = ProxySampler(range(12), seed=3)
    single = ResolutionBatchSampler(keys, 5, [dict(size=56)])
    plain = torch.utils.data.BatchSampler(keys, 5, drop_last=False)
    for found, wanted in islice(zip(single, plain, strict=False), 6):
        assert [key.parts for key in found] == [key.parts for key in wanted]


def test_length_is_that_of_an_epoch() -> None:
    assert len(sampler(10)) == 3


def test_keys_keep_their_size() -> None:
    key = SampleKey(1, 2, 3, 4).resized((28, 84))
    for other in (pickle.loads(pickle.dumps(key)), key + 0, key % 10):
        assert (other.parts, other.size) == ((1, 2, 3, 4), (28, 84))
    assert SampleKey(1, 2, 3).size is None


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_make_images_and_masks_of_the_size_of_each_batch(images: Path, workers: int) -> None:
    dataset = ImageFolder(str(images), pipeline=STEPS)
    loader = DataLoader(
        dataset,
        batch_sampler=sampler(),
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=3 if workers else None,  # beyond each change of size
        collate_fn=distill_collate,
    )
    for batch, size in zip(loader, SIZES, strict=False):
        assert batch["inputs"].shape[-2:] == size
        assert batch["masks"].shape == (len(batch["inputs"]) // 2, size[0] * size[1] // 14**2)
        for _, top, left, height, width, _ in batch["erase"]:
            assert top + height <= size[0]
            assert left + width <= size[1]


def test_sizes_do_not_change_the_random_choices(images: Path) -> None:
    plain = [dict(type="proteus.LoadImage"), dict(type="proteus.RandomResizedCrop", scale=56), *STEPS[2:]]
    for steps in (plain, [STEPS[0], *STEPS[2:]]):
        dataset = ImageFolder(str(images), pipeline=steps)
        key = SampleKey(0, 0, 4)
        small, large = dataset[key.resized((28, 28))], dataset[key.resized((112, 112))]
        assert torch.equal(dataset[key]["inputs"], dataset[key.resized((56, 56))]["inputs"])
        # The same part of the image: pixels of the small view are means of those of the large one.
        pooled = torch.nn.functional.avg_pool2d(large["inputs"].float(), 4)
        assert (pooled - small["inputs"].float()).abs().mean() < 6


def test_views_that_are_not_square_are_not_distorted(tmp_path: Path) -> None:
    # Vertical stripes 8 pixels apart, of which a crop of the whole width at half its size has one in 4 pixels.
    picture = torch.zeros(96, 288, 3, dtype=torch.uint8)
    picture[:, ::8] = 255
    for name, transpose in (("upright.png", False), ("turned.png", True)):
        image = Image.fromarray((picture.swapaxes(0, 1) if transpose else picture).contiguous().numpy())
        exif = image.getexif()
        exif[0x0112] = 5 if transpose else 1  # 5: rows become columns
        image.save(tmp_path / name, exif=exif)
    step = dict(STEPS[0], crop_ratio_range=(1.0, 1.0), aspect_ratio_range=(1.0, 1.0))
    dataset = ImageFolder(str(tmp_path), pipeline=[step, STEPS[2], STEPS[-1]])
    views = [dataset[SampleKey(0, 0, index).resized((48, 144))]["inputs"].float() for index in range(2)]
    for view in views:
        assert view.shape == (3, 48, 144)
        assert (view.std(dim=1) < 1).all()  # rows are equal
        columns = view[0, 0].view(-1, 4)
        assert (columns[2:-2].std(dim=0) < 1).all()  # a period of 4 pixels
    torch.testing.assert_close(*views)


def test_fixed_views_follow(images: Path) -> None:
    proxy = FixedViews(dict(type="proteus.ImageFolder", data_root=str(images), pipeline=STEPS), views=2)
    sample = proxy[SampleKey(0, 0, 4).resized((28, 84))]
    assert sample["inputs"].shape == (3, 28, 84)
    assert sample["mask"].shape == (12,)


def test_samplers_of_indices_cannot_carry_a_size() -> None:
    with pytest.raises(ValueError, match=r"SequentialSampler gives indices.*sampler=dict\(type='ProxySampler'\)"):
        ResolutionBatchSampler(torch.utils.data.SequentialSampler(range(4)), 2, STAGES)
