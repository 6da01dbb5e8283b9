"""Parts with valid arguments that do not fit each other: the error of the first batch names the key."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from runs import write_config, write_images, write_teacher

from proteus.apis import ConfigError, load_config, train
from proteus.datasets import ImageFolder
from proteus.utils.user_errors import mistake

Change = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]

# Changes to the pipeline of the recipe: crop, flip, RandAugment, ToTensor, RandomErasing, UniformMask, PackInputs.
PIPELINES: dict[str, tuple[Change, str]] = {
    "no transform": (lambda steps: [], r"must end in dict\(type='PackInputs'\)"),
    "no PackInputs": (lambda steps: steps[:-1], r"must end in dict\(type='PackInputs'\)"),
    "no loading": (lambda steps: steps[1:], r"dataset\.pipeline\[0\] \(RandomFlip\): KeyError: 'img'"),
    "packed twice": (lambda steps: [*steps, steps[-1]], r"dataset\.pipeline\[7\] \(PackInputs\): KeyError"),
    "erasing before the tensor": (
        lambda steps: [steps[0], steps[4], *steps[1:4], *steps[5:]],
        r"pipeline\[1\] \(RandomErasing\): .*put dict\(type='ToTensor'\) before it",
    ),
    "no mask": (lambda steps: [*steps[:5], steps[6]], "the patch objective needs masks: add a mask transform"),
    "a mask of no patch": (
        lambda steps: [*steps[:5], {**steps[5], "ratio": 0.01}, steps[6]],
        r"UniformMask: ratio=0\.01 masks none of the 16 patches of 56x56 px",
    ),
}
PARTS: dict[str, tuple[dict[str, Any], str]] = {
    "a head that reads another width": (
        {"model.objectives.token.head": {"type": "DistillHead", "in_dim": 5}},
        r"model\.objectives\.token\.head: DistillHead does not take the student's width 48",
    ),
    "a head that writes another width": (
        {"model.objectives.patch.head": {"type": "DistillHead", "out_dim": 7}},
        r"model\.objectives\.patch\.head: DistillHead gives width 7, and the teacher's tokens 64",
    ),
    "a collate function that leaves samples apart": (
        {"train_dataloader.collate_fn": {"type": "pseudo_collate"}},
        r"the first batch fails|has no 'inputs'",
    ),
    "an optimizer of two numbers that has three": (
        {"optim_wrapper.optimizer.betas": (0.9, 0.99, 0.9)},
        r"optim_wrapper\.optimizer \(AdamW\): the first batch fails: ValueError",
    ),
    "masks that are never used": (
        {"train_dataloader.collate_fn.probability": 0},
        r"train_dataloader\.batch_size = 8: .*set collate_fn\.probability above 0",
    ),
    "a crop off the patch grid": (
        {"val_dataloader.dataset.pipeline.2.crop_size": 57},
        r"val_dataloader\.dataset\.pipeline\[2\]\.crop_size = 57: model\.student\.patch_size is 14; write 56 or 70",
    ),
    "images further on than there are": (
        {"val_dataloader.dataset.indices": [0, 3, 24]},
        r"val_dataloader\.dataset: dataset\.indices=\[\.\.\., 24\]: the set has 24 images",
    ),
    "a file as folder of images": (
        {"train_dataloader.dataset.data_root": "{place}/small.py"},
        r"dataset\.data_root: \S+small\.py is a file, not a folder",
    ),
    "a best checkpoint that cannot be chosen": (
        {"default_hooks.checkpoint.save_best": "auto", "train_cfg.val_interval": 1, "train_cfg.max_iters": 1},
        r"default_hooks\.checkpoint: ValueError: Cannot infer the rule for key centered_cosine/cls",
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first_batch")
    write_config(folder, write_images(folder / "images"), write_teacher(folder / "teacher.safetensors"))
    return folder


@pytest.fixture
def recipe(place: Path, tmp_path: Path) -> Config:
    config = load_config(place / "small.py")
    config.work_dir = str(tmp_path / "run")
    return config


def refused(config: Config, words: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        train(config)
    line = mistake(caught.value)
    assert line is not None
    assert re.search(words, line)
    assert "\n" not in line


@pytest.mark.parametrize(("case", "workers"), [*((case, 0) for case in PIPELINES), ("no loading", 1)])
def test_transforms_in_a_wrong_order_are_named(case: str, workers: int, recipe: Config) -> None:
    change, words = PIPELINES[case]
    recipe.train_dataloader.num_workers = workers
    recipe.train_dataloader.dataset.pipeline = change(list(recipe.train_dataloader.dataset.pipeline))
    refused(recipe, words)


@pytest.mark.parametrize("case", PARTS)
def test_parts_that_do_not_fit_are_named(case: str, place: Path, recipe: Config) -> None:
    values, words = PARTS[case]
    for key, value in values.items():
        *parents, last = key.split(".")
        node = recipe
        for parent in parents:
            node = node[int(parent) if parent.isdecimal() else parent]
        value = value.format(place=place) if isinstance(value, str) else value
        node[int(last) if last.isdecimal() else last] = value
    refused(recipe, words)


def test_indices_above_the_number_of_images_use_all(place: Path) -> None:
    assert len(ImageFolder(str(place / "images"), indices=1000)) == 24


def test_a_metric_of_another_task_is_named(recipe: Config) -> None:
    pytest.importorskip("mmpretrain")
    recipe.val_evaluator = {"type": "mmpretrain.Accuracy"}
    recipe.train_cfg.update(max_iters=1, val_interval=1)
    with pytest.raises(ConfigError, match=r"val_evaluator \(Accuracy\): KeyError"):
        train(recipe)
