from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import SERVER, write_images
from torch.utils.data import DataLoader

from proteus.datasets import ConcatProxySet, FixedViews, SampleKey

STEPS = [
    {"type": "proteus.LoadImage"},
    {"type": "proteus.RandomResizedCrop", "scale": 56},
    {"type": "proteus.TimmRandAugment"},
    {"type": "proteus.ToTensor"},
    {"type": "proteus.UniformMask", "ratio": 0.5},
    {"type": "proteus.PackInputs"},
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("set"), 12)


def folder(images: Path, **more: Any) -> dict[str, Any]:
    return {"type": "proteus.ImageFolder", "data_root": str(images), "pipeline": STEPS, **more}


def fixed(images: Path, **more: Any) -> FixedViews:
    return FixedViews(folder(images), **{"views": 3, **more})


def same(first: dict[str, Any], second: dict[str, Any], key: str = "inputs") -> bool:
    return torch.equal(first[key], second[key])


def test_views_repeat_and_masks_do_not(images: Path) -> None:
    proxy = fixed(images)
    seen = [proxy[SampleKey(0, epoch, 4)] for epoch in range(7)]
    for epoch in range(7):
        for other in range(epoch):
            assert same(seen[epoch], seen[other]) == (epoch % 3 == other % 3)
            assert not same(seen[epoch], seen[other], "mask")
    assert all(sample["mask"].sum() == 8 for sample in seen)


def test_repeats_within_an_epoch_show_the_next_views(images: Path) -> None:
    proxy = fixed(images)
    for epoch in range(4):
        for repeat in range(3):
            wanted = proxy.view(2, (epoch + repeat) % 3)
            assert same(proxy[SampleKey(9, epoch, 2, repeat)], wanted)


def test_views_do_not_depend_on_the_seed_of_the_run(images: Path) -> None:
    """The seed of the run draws masks; views have a separate seed."""
    proxy, other = fixed(images), fixed(images, view_seed=1)
    one, two = proxy[SampleKey(0, 1, 5)], proxy[SampleKey(7, 1, 5)]
    assert same(one, two)
    assert not same(one, two, "mask")
    assert same(one, proxy.dataset[SampleKey(0, 1, 5)])
    assert not same(one, other[SampleKey(0, 1, 5)])
    assert same(other[SampleKey(0, 1, 5)], proxy.dataset[SampleKey(1, 1, 5)])


def test_workers_that_get_a_pickled_set_see_the_same_views(images: Path) -> None:
    proxy = fixed(images)
    keys = [SampleKey(0, epoch, image) for epoch in (0, 4) for image in (3, 0)]
    loader = DataLoader(proxy, batch_size=None, sampler=keys, num_workers=1, multiprocessing_context=SERVER)
    for key, sample in zip(keys, loader, strict=True):
        assert same(sample, proxy[key])
        assert same(sample, proxy[key], "mask")


def test_fixed_views_of_a_concatenation_and_not_inside_one(images: Path) -> None:
    sets = {"a": folder(images), "b": folder(images, indices=4)}
    proxy = FixedViews({"type": "proteus.ConcatProxySet", "datasets": sets, "repeats": {"b": 0.5}}, views=2)
    assert len(proxy) == 14
    assert {proxy.view(12, view)["data_samples"].img_path for view in (0, 1)} | {
        proxy.view(13, view)["data_samples"].img_path for view in (0, 1)
    } == {proxy.dataset.members["b"].get_data_info(index)["img_path"] for index in range(4)}
    with pytest.raises(ValueError, match="FixedViews cannot be part of a ConcatProxySet"):
        ConcatProxySet({"a": {"type": "proteus.FixedViews", "dataset": folder(images)}})


def test_different_mask_transforms_are_refused(images: Path) -> None:
    other = [*STEPS[:4], {"type": "proteus.BlockMask"}, STEPS[5]]
    sets = {"a": folder(images), "b": {**folder(images), "pipeline": other}}
    with pytest.raises(ValueError, match="use 2 different mask transforms"):
        FixedViews({"type": "proteus.ConcatProxySet", "datasets": sets})
    alike = FixedViews({"type": "proteus.ConcatProxySet", "datasets": {"a": folder(images), "b": folder(images)}})
    assert alike.mask is not None


@pytest.mark.parametrize(("views", "text"), [(0, "dataset.views=0"), (-1, "dataset.views=-1")])
def test_invalid_numbers_of_views(images: Path, views: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        FixedViews(folder(images), views=views)


def test_fixed_views_of_fixed_views_are_refused(images: Path) -> None:
    with pytest.raises(ValueError, match="FixedViews is not a proxy set with views to fix"):
        FixedViews({"type": "proteus.FixedViews", "dataset": folder(images)})


def test_description(images: Path) -> None:
    assert "3 fixed views (view_seed=0; the teacher runs) of ImageFolder" in fixed(images).describe()
    text = fixed(images, cache="work_dirs/cache/b").describe()
    assert "the teacher's tokens are read from work_dirs/cache/b" in text
