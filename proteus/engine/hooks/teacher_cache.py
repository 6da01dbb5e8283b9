"""Check that a teacher cache matches the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from proteus.datasets import FixedViews
from proteus.datasets.proxy.fixed_views import erases
from proteus.datasets.teacher_cache import (
    CacheError,
    CacheIndex,
    StaleCacheError,
    TeacherCache,
    differences,
    pixels_of,
    plain,
)
from proteus.models.distillers.data_preprocessor import MEAN, STD
from proteus.models.distillers.mixup import MixupDataPreprocessor
from proteus.models.teachers.fingerprint import teacher_fingerprint
from proteus.registry import HOOKS
from proteus.utils.models import unwrap_model

_STATISTICS = {"mean": list(MEAN), "std": list(STD)}


@HOOKS.register_module()
class TeacherCacheHook(Hook):
    """Before the first iteration, check that the teacher cache was built with this run's teacher, views and images.

    ``proteus train`` adds the hook to every run with a cache. It compares the cache's index and, since another version
    of a library may draw other views from the same key, the pixels of some views.

    Args:
        compared: Number of views of which the pixels are compared; 0 for none.

    Raises:
        StaleCacheError: At the start: the cache differs; the message lists the differences and the remedies.
        CacheError: At the start: the cache is missing, unfinished or damaged.
    """

    # Before the online evaluation, which takes a while.
    priority = "VERY_HIGH"

    def __init__(self, compared: int = 16) -> None:
        self.compared = compared

    def before_train(self, runner: Runner) -> None:
        """Compare cache and run."""
        dataset = runner.train_dataloader.dataset
        if not isinstance(dataset, FixedViews) or not dataset.caches:
            return
        model = unwrap_model(runner.model)
        config = str(runner.cfg.filename or "CONFIG")
        check_names(model, dataset.caches)
        check_usable(model, dataset.caches)
        for name, cache in dataset.caches.items():
            self._check(runner, model, name, cache, config)

    def _check(self, runner: Runner, model: Any, name: str, cache: TeacherCache, config: str) -> None:
        dataset = runner.train_dataloader.dataset
        index = read_finished(cache, config, name)
        wanted = cache_fingerprint(model, runner.cfg.model, dataset, name)
        check_matches(cache, wanted, dataset, config, name, self.compared)
        who = f"{name}, " if name else ""
        runner.logger.info(
            f"teacher cache: {who}{cache.folder}, {index.patches['type']} with {index.patch_error:.2g} of the patch "
            "tokens' variance lost; training does not run the teacher"
        )


def read_finished(cache: TeacherCache, config: str, name: str = "") -> CacheIndex:
    """Return the index of a cache that has all its files.

    Args:
        cache: The cache.
        config: File name of the config, for the message.
        name: Name of one of several teachers.

    Raises:
        CacheError: The cache is missing, unfinished or damaged; the message has the command that builds it.
    """
    try:
        index = cache.index
        cache.check_files()
    except CacheError as error:
        raise CacheError(f"{error}; build it with\n  proteus cache {_command(config, name)}") from error
    return index


def check_matches(
    cache: TeacherCache,
    wanted: Mapping[str, Any],
    dataset: FixedViews,
    config: str,
    name: str = "",
    compared: int = 16,
) -> None:
    """Check that a cache was built with the teacher, the views and the images of a run.

    Args:
        cache: The cache.
        wanted: The run's :func:`cache_fingerprint`.
        dataset: The run's proxy set.
        config: File name of the config, for the message.
        name: Name of one of several teachers.
        compared: Number of views of which the pixels are compared.

    Raises:
        StaleCacheError: The cache differs; the message lists the differences and the remedies.
    """
    different = stale(cache.index, wanted, dataset.views) or _other_pixels(cache, dataset, compared)
    if different:
        raise StaleCacheError(stale_cache_message(cache, different, config, name))


def _other_pixels(cache: TeacherCache, dataset: FixedViews, compared: int) -> list[str]:
    count = min(compared, len(dataset))
    changed = 0
    for number in range(count):
        image, view = number * len(dataset) // count, number % dataset.views
        changed += pixels_of(dataset.view(image, view)) != cache.read(image, view).pixels
    if not changed:
        return []
    versions = ", ".join(f"{name} {version}" for name, version in cache.index.built_with.items())
    return [
        f"pixels: {changed} of {count} compared views differ; the image files have changed, or the libraries that "
        f"read them (the cache was built with {versions})"
    ]


def check_names(model: Any, names: Iterable[str]) -> None:
    """Check that each cache is one of a teacher of the run.

    Raises:
        StaleCacheError: The run has several teachers and the caches are not by their names, or the other way round.
    """
    teachers = list(getattr(model, "teachers_by_name", {"": None}))
    key = "train_dataloader.dataset.cache"
    for name in names:
        if name in teachers:
            continue
        if not name:
            folders = ", ".join(f"{teacher}='work_dirs/cache/{teacher}'" for teacher in teachers)
            raise StaleCacheError(f"{key} is one folder, and the run has several teachers: write {key}=dict({folders})")
        known = f"choose from {', '.join(teachers)}" if any(teachers) else "write one folder for the only teacher"
        raise StaleCacheError(f"{key}.{name}: the run has no teacher of this name; {known}")


def check_usable(model: Any, names: Iterable[str] = ("",)) -> None:
    """Check that a model can be trained with cached tokens of fixed views.

    Args:
        model: The model.
        names: Names of the cached teachers.

    Raises:
        StaleCacheError: It cannot; the message names the reason.
    """
    if getattr(model, "spread_teachers", False):
        raise StaleCacheError(
            "model.spread_teachers=True spreads teachers that run, and those of a teacher cache do not: write "
            "model.spread_teachers=False"
        )
    names = set(names)
    for name, distiller in getattr(model, "distillers", {}).items():
        if "" not in names and name not in names:
            continue
        if distiller.needs_logits or distiller.needs_hidden_states:
            what = "logits" if distiller.needs_logits else "hidden states"
            raise StaleCacheError(
                f"{distiller.key}.objectives use the teacher's {what}, but a teacher cache has only its tokens: use "
                "objectives on tokens, or set train_dataloader.dataset.cache=None"
            )
    if isinstance(model.data_preprocessor, MixupDataPreprocessor):
        raise StaleCacheError(
            "model.data_preprocessor mixes images at random in each step, but a teacher cache has the tokens of "
            "unmixed images: use DistillDataPreprocessor, or set train_dataloader.dataset.cache=None"
        )


def cache_fingerprint(model: Any, config: Mapping[str, Any], dataset: FixedViews, name: str = "") -> dict[str, Any]:
    """Return everything that must be equal when a cache is built and when it is read.

    The student's normalisation statistics are part of it only if views are erased, with noise in the student's space:
    the teacher has its own.

    Args:
        model: The distiller, on the teacher's device.
        config: The distiller's config.
        dataset: The proxy set.
        name: Name of one of several teachers.
    """
    preprocessor = {**_STATISTICS, **(config.get("data_preprocessor") or {"type": "DistillDataPreprocessor"})}
    if not erases(dataset):
        preprocessor = {key: value for key, value in preprocessor.items() if key not in _STATISTICS}
    # Models of projects may have other kinds of teachers and describe them.
    own = getattr(model, "teacher_fingerprint", None)
    written = config["teachers"][name]["teacher"] if name else config.get("teacher")
    return plain(
        {
            "teacher": own() if own is not None else _fingerprint(model, name, written or {}),
            "data_preprocessor": preprocessor,
            **dataset.identity(),
        }
    )


def _fingerprint(model: Any, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a teacher, with the size to which its images are resized for the grid of the student."""
    teacher = _teacher(model, name)
    found = teacher_fingerprint(teacher, config)
    sides = [getattr(each.student, "img_size", None) for each in model.distillers.values()]
    side = next((each for each in sides if each is not None), None)
    if side is None:
        return found
    entering = teacher.input_size((side, side))
    return found if entering == (side, side) else {**found, "img_size": entering[0]}


def stale(index: CacheIndex, wanted: Mapping[str, Any], views: int) -> list[str]:
    """List the differences between a cache and a run, one line per key."""
    found = index.identity
    if "mean" in wanted.get("data_preprocessor", {}):
        # Caches of earlier versions do not name the statistics; all recipes have these.
        found = {**found, "data_preprocessor": {**_STATISTICS, **found.get("data_preprocessor", {})}}
    lines = differences(found, dict(wanted))
    if any(line.startswith("teacher.dtype:") for line in lines):
        # In another dtype the same weights have another digest.
        lines = [line for line in lines if not line.startswith("teacher.weights:")]
    if index.views < views:
        lines.append(f"views.count: the cache was built with {index.views}, this run has {views}")
    return lines


def stale_cache_message(cache: TeacherCache, different: list[str], config: str, name: str = "") -> str:
    """Format the error for a stale cache; ``name`` is that of one of several teachers."""
    key = "train_dataloader.dataset.cache" + (f".{name}" if name else "")
    return "\n  ".join(
        [
            f"the teacher cache in {cache.folder} does not match this run ({key}):",
            *different,
            "revert the change, or build a new cache and use it:",
            f"  proteus cache {_command(config, name)} --out DIR",
            f"  proteus train {config} --cfg-options {key}=DIR",
            f"or set {key}=None to run the teacher",
        ]
    )


def _teacher(model: Any, name: str) -> Any:
    return model.teachers_by_name[name] if name else model.teacher


def _command(config: str, name: str) -> str:
    return f"{config} --teacher {name}" if name else config
