"""Check the teacher caches of a config before the run."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config

from proteus.checkpoints import locate
from proteus.config.check_consistency import has_fixed_views
from proteus.config.check_files import Missing
from proteus.datasets import FixedViews
from proteus.datasets.teacher_cache import CacheIndex, TeacherCache, read_index
from proteus.engine.hooks.teacher_cache import (
    cache_fingerprint,
    check_matches,
    check_names,
    check_usable,
    read_finished,
)
from proteus.models.backbones import build_backbone
from proteus.utils.precision import has_bfloat16

_KEY = "train_dataloader.dataset.cache"


def cache_folders(cfg: Config) -> dict[str, str]:
    """Return the folders of the teacher caches of a run, by the teacher's name, which is empty for the only one."""
    found = cfg.train_dataloader.dataset.get("cache")
    folders = found if isinstance(found, Mapping) else {"": found}
    return {name: folder for name, folder in folders.items() if folder}


def check_caches(cfg: Config, model: Any, dataset: Any) -> list[Missing]:
    """Check the teacher caches of a config as a run does before its first iteration.

    Teachers with a cache are loaded one after another, to compare their weights; those of a missing file are not
    compared.

    Args:
        cfg: The config.
        model: Its model on the meta device.
        dataset: Its training set; without one, as images are missing, only the names of the caches are checked.

    Returns:
        The caches that are yet to be built.

    Raises:
        StaleCacheError: A cache belongs to none of the teachers, or was built from another teacher or other views.
        CacheError: A cache is unfinished or damaged.
    """
    folders = cache_folders(cfg)
    if not folders or not has_fixed_views(cfg.train_dataloader.dataset):
        return []
    check_names(model, folders)
    check_usable(model, folders)
    missing = []
    for name, folder in folders.items():
        cache = TeacherCache(folder)
        if read_index(cache.folder) is None:
            missing.append(Missing(f"{_KEY}.{name}" if name else _KEY, folder))
        elif isinstance(dataset, FixedViews):
            _check(cfg, model, dataset, cache, name)
    return missing


def _check(cfg: Config, model: Any, dataset: FixedViews, cache: TeacherCache, name: str) -> None:
    config = str(cfg.filename or "CONFIG")
    index = read_finished(cache, config, name)
    found = index.identity.get("teacher")
    if hasattr(model, "teacher_fingerprint"):  # of a kind that cannot be loaded here
        wanted = {**cache_fingerprint(model, cfg.model, dataset, name), "teacher": found}
    else:
        written = cfg.model.teachers[name].teacher if name else cfg.model.teacher
        teacher = model.teachers_by_name[name]
        with _loaded(teacher, written, index) as has_weights:
            wanted = cache_fingerprint(model, cfg.model, dataset, name)
        if not has_weights and isinstance(found, Mapping):
            wanted["teacher"]["weights"] = found.get("weights")
    check_matches(cache, wanted, dataset, config, name)


@contextmanager
def _loaded(teacher: Any, written: Mapping[str, Any], index: CacheIndex) -> Iterator[bool]:
    """Give a teacher on the meta device its weights, if they are on this machine, in the dtype that training uses."""
    outline, config = teacher.backbone, copy.deepcopy(dict(written["backbone"]))
    has_weights = isinstance(config.get("checkpoint"), str) and locate(config["checkpoint"]).is_file()
    backbone = build_backbone(config) if has_weights else copy.deepcopy(outline)
    teacher.backbone = backbone.to(_dtype(teacher, index))
    try:
        yield has_weights
    finally:
        teacher.backbone = outline


def _dtype(teacher: Any, index: CacheIndex) -> torch.dtype:
    if teacher.dtype != "auto":
        name = teacher.dtype
    elif torch.cuda.is_available():
        name = "bfloat16" if has_bfloat16("cuda") else "float32"
    else:
        # The run may follow on a machine with a GPU, where the cache was built.
        name = str((index.identity.get("teacher") or {}).get("dtype"))
    return getattr(torch, name) if name in ("float32", "bfloat16", "float16") else torch.float32
