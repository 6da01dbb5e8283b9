"""Check that all files of annotations list the categories that the detector has."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner

from proteus.compat import loops_of
from proteus.registry import HOOKS
from proteus.structures import DataError
from proteus.utils.models import unwrap_model

_KEYS = tuple(f"{part}_dataloader.dataset.ann_file" for part in ("train", "val", "test"))


@HOOKS.register_module()
class CategoryCheckHook(Hook):
    """Compare the categories of the data sets and ``model.num_classes`` before the first image is read.

    A label is the position of a category in the list of its file: with another list it would mean another category.

    Raises:
        DataError: From ``before_run``: the files list different categories, or another number than
            ``model.num_classes``. From ``after_load_checkpoint``: the file to test on lists others than the checkpoint
            was trained on.
    """

    priority = "VERY_HIGH"

    def before_run(self, runner: Runner) -> None:
        """Compare the data sets with each other, and with the model."""
        sets = _sets(runner)
        for key, dataset in sets.items():
            _check_same(dataset.metainfo, key, next(iter(sets.values())).metainfo, next(iter(sets)))
            found, expected = len(dataset.metainfo["category_ids"]), unwrap_model(runner.model).num_classes
            if found != expected:
                raise DataError(
                    f"model.num_classes={expected}, but {key} lists {found} categories: write "
                    f"model.num_classes={found}, or name the file with all categories that the model was trained on"
                )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare the test set with the training set that the checkpoint describes."""
        dataset = _sets(runner).get(_KEYS[2])
        trained = (checkpoint.get("meta") or {}).get("dataset_meta") or {}
        if dataset is not None and "category_ids" in trained:
            _check_same(dataset.metainfo, _KEYS[2], trained, "the training set of the checkpoint")


def _sets(runner: Runner) -> dict[str, Any]:
    """Return the data sets with categories by the key of their file."""
    loops = dict(zip(_KEYS, loops_of(runner), strict=True))
    sets = {key: loop.dataloader.dataset for key, loop in loops.items() if isinstance(loop, BaseLoop)}
    return {key: each for key, each in sets.items() if "category_ids" in getattr(each, "metainfo", {})}


def _check_same(found: dict[str, Any], key: str, expected: dict[str, Any], source: str) -> None:
    here, there = (dict(zip(meta["category_ids"], meta["classes"], strict=True)) for meta in (found, expected))
    if here != there:
        number = min(number for number, _ in here.items() ^ there.items())
        named = " and ".join(repr(names[number]) if number in names else "none" for names in (here, there))
        raise DataError(
            f"{key} lists {len(here)} categories and {source} {len(there)}; the first difference is id {number} "
            f"({named}): list the same categories in both files, also those without boxes"
        )
