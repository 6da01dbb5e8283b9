"""Views that a student's first weights are fitted on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image

from proteus.datasets import ConcatProxySet, FixedViews, ImageFolder, load_fitting_views
from proteus.datasets.proxy.fitting_views import fitting_keys, read_fitting_views, read_views

WHOLE = [dict(type="LoadImage"), dict(type="ResizeSquare", scale=28), dict(type="ToTensor"), dict(type="PackInputs")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of one grey level each: the file's number."""
    init_default_scope("proteus")
    for level in range(6):
        Image.fromarray(np.full((40, 40, 3), 20 * level, np.uint8)).save(tmp_path / f"{level}.png")
    return tmp_path


@pytest.mark.parametrize(("size", "count"), [(10, 3), (10, 5), (1000, 512), (1000, 999), (10, 10)])
def test_views_are_spread_over_the_set(size: int, count: int) -> None:
    """A folder lists its images by class: its first half shows half of the classes."""
    keys = fitting_keys(size, count)[:count]
    images = [int(key) for key in keys]
    assert {key.epoch for key in keys} == {0}
    assert len(set(images)) == count
    assert max(np.diff([*images, size + images[0]])) <= np.ceil(size / count)


@pytest.mark.parametrize(("size", "count"), [(10, 3), (10, 5), (10, 7), (10, 25), (1, 4)])
def test_no_view_is_drawn_twice(size: int, count: int) -> None:
    keys = fitting_keys(size, count)
    assert len(keys) == len({(key.epoch, int(key)) for key in keys}) == 2 * count
    fit, others = ({int(key) for key in part} for part in (keys[:count], keys[count:]))
    assert fit.isdisjoint(others) == (2 * count <= size)
    counts = np.bincount([int(key) for key in keys[:count]], minlength=size)
    assert counts.max() - counts.min() <= 1


def test_views_do_not_depend_on_the_transforms_of_the_set(folder: Path) -> None:
    plain, other = (ImageFolder(data_root=folder, pipeline=pipeline) for pipeline in ([], WHOLE))
    for mine, given in zip(load_fitting_views(plain, 3, 14), load_fitting_views(other, 3, 14), strict=True):
        assert mine["inputs"].shape == (3, 14, 14)
        assert torch.equal(mine["inputs"], given["inputs"])


def test_views_take_transforms_of_the_users(folder: Path) -> None:
    assert load_fitting_views(ImageFolder(data_root=folder), 2, 14, WHOLE)[0]["inputs"].shape == (3, 28, 28)


def test_workers_read_the_same_views_and_draw_no_random_numbers(folder: Path) -> None:
    dataset = ImageFolder(data_root=folder)
    expected = torch.stack([sample["inputs"] for sample in load_fitting_views(dataset, 5, 14)])
    state = torch.get_rng_state()
    for workers in (0, 2):
        batches = list(read_fitting_views(dataset, 5, 14, title="views", batch_size=3, num_workers=workers))
        assert [len(batch["inputs"]) for batch in batches] == [3, 3, 3, 1]
        assert torch.equal(torch.cat([batch["inputs"] for batch in batches]), expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_no_views_need_no_workers(folder: Path) -> None:
    """With fewer views than ranks, some ranks have none."""
    dataset = ImageFolder(data_root=folder, pipeline=WHOLE)
    assert list(read_views(dataset, [], "views", num_workers=2, multiprocessing_context="spawn")) == []


def sets_of(folder: Path) -> dict[str, Any]:
    one = dict(type="ImageFolder", data_root=str(folder), pipeline=WHOLE)
    return {
        "concatenated": ConcatProxySet(datasets={"a": one, "b": dict(one, indices=2)}),
        "fixed views": FixedViews(dataset=one, views=2),
    }


@pytest.mark.parametrize("kind", ["concatenated", "fixed views"])
def test_a_set_of_sets_takes_other_transforms(folder: Path, kind: str) -> None:
    dataset = sets_of(folder)[kind]
    other = dataset.with_pipeline(Compose([*WHOLE[:1], dict(type="ResizeSquare", scale=14), *WHOLE[2:]]))
    assert len(other) == len(dataset)
    assert other[1]["inputs"].shape == (3, 14, 14)
    assert dataset[1]["inputs"].shape == (3, 28, 28)
    torch.testing.assert_close(other[5]["inputs"].float().mean(), dataset[5]["inputs"].float().mean(), atol=0, rtol=0)
