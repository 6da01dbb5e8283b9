"""Mask transforms of a user that derive from MaskTransform work everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import write_config, write_images, write_teacher
from torch import Tensor

from proteus.apis import load_config
from proteus.config.check_consistency import check_batch, check_sizes
from proteus.datasets import FixedViews, MaskTransform, SampleKey
from proteus.datasets.teacher_cache.fingerprint import dataset_fingerprint
from proteus.registry import DATASETS, TRANSFORMS
from proteus.structures import ConfigError


class TopRowsMask(MaskTransform):
    """Mask the upper patches, from a random one."""

    def draw(self, height: int, width: int, count: int) -> Tensor:
        mask = torch.zeros(height * width, dtype=torch.bool)
        start = int(torch.randint(height * width - count + 1, ()))
        mask[start : start + count] = True
        return mask.view(height, width)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    TRANSFORMS.register_module(module=TopRowsMask)
    yield
    TRANSFORMS.module_dict.pop("TopRowsMask")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", 4)


def folder(images: Path, **mask: Any) -> dict[str, Any]:
    steps = [
        {"type": "proteus.LoadRandomResizedCrop", "scale": 56},
        {"type": "proteus.ToTensor"},
        {"type": "proteus.TopRowsMask", **mask},
        {"type": "proteus.PackInputs"},
    ]
    return {"type": "proteus.ImageFolder", "data_root": str(images), "pipeline": steps}


def test_teacher_caches_do_not_depend_on_masks(images: Path) -> None:
    thin, dense = folder(images, ratio=0.2), folder(images, ratio=0.8)
    assert dataset_fingerprint(thin, DATASETS.build(thin)) == dataset_fingerprint(dense, DATASETS.build(dense))


def test_fixed_views_redraw_masks(images: Path) -> None:
    proxy = FixedViews(folder(images), views=2)
    first, *later = (proxy[SampleKey(0, epoch, 1)] for epoch in range(0, 12, 2))
    assert all(torch.equal(first["inputs"], sample["inputs"]) for sample in later)
    assert not all(torch.equal(first["mask"], sample["mask"]) for sample in later)


def test_batches_without_masked_image_and_other_patch_sizes_are_refused(tmp_path: Path, images: Path) -> None:
    cfg = load_config(write_config(tmp_path, images, write_teacher(tmp_path / "teacher.safetensors")))
    (step,) = [step for step in cfg.train_dataloader.dataset.pipeline if step["type"] == "UniformMask"]
    step.clear()
    step.update(type="TopRowsMask", patch_size=7)
    with pytest.raises(ConfigError, match=r"patch_size = 7: model\.student\.patch_size is 14"):
        check_sizes(cfg)
    cfg.train_dataloader.batch_size = 1
    with pytest.raises(ConfigError, match="no image of it is masked"):
        check_batch(cfg)
