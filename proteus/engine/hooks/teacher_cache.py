"""A teacher's cached tokens, and whether they are this run's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from proteus.datasets import FixedViews
from proteus.datasets.teacher_cache import (
    CacheError,
    CacheIndex,
    StaleCacheError,
    TeacherCache,
    differences,
    pixels_of,
    plain,
)
from proteus.models.distillers.mixup import MixupDataPreprocessor
from proteus.models.teachers.fingerprint import teacher_fingerprint
from proteus.registry import HOOKS


@HOOKS.register_module()
class TeacherCacheHook(Hook):
    """Before the first iteration, refuse a teacher cache that is not of this run's teacher, views and images.

    ``tools/train.py`` adds it to every run whose proxy set reads a cache. Compared are what the index says and, as
    a library of another version may draw other views from the same key, the pixels of some views.

    Args:
        compared: Number of views of which the pixels are compared; 0 compares none.

    Raises:
        StaleCacheError: At start, with all that differs and what to do about it.
        CacheError: At start: there is no such cache, or it is unfinished or damaged.
    """

    # Before hooks that look at the student, which takes a while.
    priority = "VERY_HIGH"

    def __init__(self, compared: int = 16) -> None:
        self.compared = compared

    def before_train(self, runner: Runner) -> None:
        """Compare."""
        dataset = runner.train_dataloader.dataset
        if not isinstance(dataset, FixedViews) or dataset.cache is None:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        config = str(runner.cfg.filename or "CONFIG")
        check_usable(model)
        try:
            index = dataset.cache.index
            dataset.cache.check_files()
        except CacheError as error:
            raise CacheError(f"{error}; build it with\n  tools/cache_teacher.py {config}") from error
        wanted = cache_fingerprint(model, runner.cfg.model, dataset)
        different = stale(index, wanted, dataset.views) or self._pixels(dataset, dataset.cache)
        if different:
            raise StaleCacheError(refusal(dataset.cache, different, config))
        runner.logger.info(
            f"teacher cache: {dataset.cache.folder}, {index.patches['type']} with {index.patch_error:.2g} of the patch "
            "tokens' variance lost; training does not run the teacher"
        )

    def _pixels(self, dataset: FixedViews, cache: TeacherCache) -> list[str]:
        count = min(self.compared, len(dataset))
        changed = 0
        for number in range(count):
            image, view = number * len(dataset) // count, number % dataset.views
            changed += pixels_of(dataset.view(image, view)) != cache.read(image, view).pixels
        if not changed:
            return []
        versions = ", ".join(f"{name} {version}" for name, version in cache.index.built_with.items())
        return [
            f"pixels: {changed} of {count} views that were compared look different; the image files have changed, or "
            f"the libraries that read them (the cache was built with {versions})"
        ]


def check_usable(model: Any) -> None:
    """Refuse a model for which tokens of a view, kept once, are not enough.

    Raises:
        StaleCacheError: Says what stands against it.
    """
    if any(distiller.needs_logits for distiller in getattr(model, "distillers", {}).values()):
        raise StaleCacheError(
            "model.objectives read the teacher's logits, and a teacher cache holds its tokens alone: keep objectives "
            "on tokens, or set train_dataloader.dataset.cache=None"
        )
    if isinstance(model.data_preprocessor, MixupDataPreprocessor):
        raise StaleCacheError(
            "model.data_preprocessor mixes each image with another, anew in each step, and a teacher cache holds the "
            "tokens of images as they are: use DistillDataPreprocessor, or set train_dataloader.dataset.cache=None"
        )


def cache_fingerprint(model: Any, config: Mapping[str, Any], dataset: FixedViews) -> dict[str, Any]:
    """What must be the same where a cache is built and where it is read.

    The statistics that images are normalised with for the student do not count: the teacher has its own.

    Args:
        model: The distiller, on the device where the teacher runs.
        config: What it was built from.
        dataset: The proxy set.
    """
    preprocessor = config.get("data_preprocessor") or {"type": "DistillDataPreprocessor"}
    # Another kind of model, of a project, describes its own kind of teacher.
    own = getattr(model, "teacher_fingerprint", None)
    return plain(
        {
            "teacher": own() if own is not None else teacher_fingerprint(model.teacher, config["teacher"]),
            "data_preprocessor": {key: value for key, value in preprocessor.items() if key not in ("mean", "std")},
            **dataset.identity(),
        }
    )


def stale(index: CacheIndex, wanted: Mapping[str, Any], views: int) -> list[str]:
    """Say in what a cache differs from what is wanted, one line for each key."""
    lines = differences(index.identity, dict(wanted))
    if any(line.startswith("teacher.dtype:") for line in lines):
        # The same weights in another dtype have another digest, which says nothing more.
        lines = [line for line in lines if not line.startswith("teacher.weights:")]
    if index.views < views:
        lines.append(f"views.count: the cache was built with {index.views}, this run has {views}")
    return lines


def refusal(cache: TeacherCache, different: list[str], config: str) -> str:
    """Word the refusal of a stale cache."""
    return "\n  ".join(
        [
            f"the teacher cache in {cache.folder} is not of this run (train_dataloader.dataset.cache):",
            *different,
            "change that back, or build another one and name it:",
            f"  tools/cache_teacher.py {config} --out DIR",
            f"  tools/train.py {config} --cfg-options train_dataloader.dataset.cache=DIR",
            "or set train_dataloader.dataset.cache=None, which runs the teacher",
        ]
    )
