import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import write_images
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset

from proteus.datasets import ImageFolder, SampleKey, SeededSet
from proteus.datasets.proxy.seeded_set import check_map_style, has_own_seeds, holds_proxy_set, seeded_config
from proteus.registry import DATASETS


@DATASETS.register_module()
class ThreeDraws(Dataset):
    """Draw from all three global generators."""

    unit = "draws"

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return int(index), random.random(), np.random.rand(), torch.rand(1).item()


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        yield 1

    def __len__(self) -> int:
        return 1


def test_samples_depend_only_on_their_key() -> None:
    dataset = SeededSet(dict(type="ThreeDraws"))
    first = dataset[SampleKey(0, 1, 2)]
    torch.rand(3)
    assert dataset[SampleKey(0, 1, 2)] == first
    for other in (SampleKey(1, 1, 2), SampleKey(0, 2, 2), SampleKey(0, 1, 3), SampleKey(0, 1, 2, 1)):
        assert not set(dataset[other][1:]) & set(first[1:])


def test_plain_indices_draw_from_the_global_generators() -> None:
    dataset = SeededSet(ThreeDraws())
    assert dataset[2][1:] != dataset[2][1:]
    torch.manual_seed(0)
    expected = torch.rand(1).item()
    torch.manual_seed(0)
    dataset[SampleKey(0, 0, 1)]
    assert torch.rand(1).item() == expected


def test_length_and_attributes_of_the_set() -> None:
    dataset = SeededSet(ThreeDraws())
    assert len(dataset) == 5
    assert dataset.unit == "draws"
    dataset.full_init()
    with pytest.raises(AttributeError, match="nothing"):
        _ = dataset.nothing


@pytest.mark.parametrize("dataset", [Stream(), object(), Dataset()])
def test_sets_that_are_not_map_style_are_refused(dataset: Any) -> None:
    with pytest.raises(ValueError, match=f"{type(dataset).__name__} is not a map-style data set: write __len__ and"):
        check_map_style(dataset)


def test_proxy_sets_inside_wrappers_are_found(tmp_path: Path) -> None:
    proxy = ImageFolder(str(write_images(tmp_path / "images", 3)))
    assert has_own_seeds(proxy)
    assert has_own_seeds(ImageFolder)
    assert has_own_seeds(SeededSet(proxy))
    assert not has_own_seeds(ThreeDraws())
    assert not has_own_seeds(ThreeDraws)
    assert holds_proxy_set(Subset(ConcatDataset([ThreeDraws(), proxy]), [0]))
    assert not holds_proxy_set(proxy)
    assert not holds_proxy_set(Subset(ThreeDraws(), [0]))


@pytest.mark.parametrize(
    ("kind", "sampler", "is_wrapped"),
    [
        ("ThreeDraws", "ProxySampler", True),
        (ThreeDraws, "proteus.ProxySampler", True),
        ("ThreeDraws", "DefaultSampler", False),
        ("proteus.ImageFolder", "ProxySampler", False),
        ("proteus.SeededSet", "ProxySampler", False),
        ("NotRegistered", "ProxySampler", False),
    ],
)
def test_configs_of_foreign_sets_are_wrapped(kind: Any, sampler: str, is_wrapped: bool) -> None:
    dataset = {"type": kind, "a": 1}
    found = seeded_config({"dataset": dataset, "sampler": {"type": sampler}}, "proteus")
    assert found == ({"type": "proteus.SeededSet", "dataset": dataset} if is_wrapped else dataset)


def test_loaders_without_sampler_are_unchanged() -> None:
    assert seeded_config({"dataset": {"type": "ThreeDraws"}}) == {"type": "ThreeDraws"}
    assert seeded_config({"sampler": {"type": "ProxySampler"}}) is None
