"""Plan a teacher cache from a config; :mod:`proteus.apis.cache_writing` runs the teacher and writes the files."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_dist_info, init_dist
from mmengine.registry import init_default_scope

from proteus.apis.cache_writing import GB, CacheBuild, CacheViews, build, free_bytes
from proteus.apis.resources import check_device
from proteus.config.build_errors import as_config_error
from proteus.config.check_consistency import check_batch, check_sizes, has_fixed_views
from proteus.config.check_files import check_files
from proteus.datasets import distill_collate
from proteus.datasets.teacher_cache import CacheIndex, StaleCacheError, read_index
from proteus.engine.hooks.teacher_cache import cache_fingerprint, check_usable, stale
from proteus.engine.runner import prepare_processes
from proteus.registry import DATASETS, MODELS
from proteus.structures import ConfigError, UserError
from proteus.version import __version__

__all__ = ["CacheBuild", "build", "format_plan", "prepare"]

_COMPONENTS = 128


def prepare(
    cfg: Config,
    out: str | Path | None = None,
    patches: str | None = None,
    components: int | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    shard_bytes: float = 256e6,
    teacher: str | None = None,
) -> CacheBuild:
    """Plan the teacher cache of a config; nothing is written.

    Args:
        cfg: A distillation config with ``FixedViews`` as training set.
        out: Folder of the cache; by default ``train_dataloader.dataset.cache``.
        patches: ``float16`` or ``int8-pca``; by default as in an existing cache, else ``float16``.
        components: For ``int8-pca``, by default 128.
        device: By default the GPU of this process, or the CPU without one.
        batch_size: By default that of the training.
        num_workers: By default that of the training.
        shard_bytes: Approximate size of a file. Each process keeps one in memory, and an interruption loses at most
            one per process.
        teacher: Name of one of several teachers of ``model.teachers``.

    Raises:
        ConfigError: The config has no fixed views, its parts do not fit, or a file is missing.
        StaleCacheError: The folder holds a cache of another teacher or of other views, or the model cannot use one.
        CheckpointError: The teacher's weights cannot be read.
        UserError: The machine does not have the device, or a number is out of range.
    """
    _check_values(patches, components, batch_size, num_workers, shard_bytes)
    device = None if device is None else check_device(device)
    loader = cfg.train_dataloader
    config = dict(loader.dataset)
    if not has_fixed_views(config):
        text = (
            f"train_dataloader.dataset is {config['type']}, which makes new random views every time: write "
            "dict(type='FixedViews', views=4, cache='work_dirs/cache/NAME', dataset=dict(...the current one...))"
        )
        raise ConfigError([text], str(cfg.filename))
    name = _teacher_name(cfg, teacher)
    folder = _folder(cfg, config.pop("cache", None), name) if out is None else out
    _join(cfg)
    written = cfg.model.teachers[name].teacher if name else cfg.model.get("teacher")
    if (written or {}).get("shard") and get_dist_info()[1] > 1:
        key = f"model.teachers.{name}.teacher" if name else "model.teacher"
        text = f"{key}.shard: each rank writes separate files and must hold the whole teacher; write False"
        raise ConfigError([text], str(cfg.filename))
    check_batch(cfg)
    check_sizes(cfg)
    check_files(cfg, ("model", "train_dataloader"))
    init_default_scope(cfg.get("default_scope", "proteus"))
    with as_config_error(str(cfg.filename)):
        dataset = DATASETS.build({**config, "cache": None})
        model = MODELS.build(cfg.model)
    check_usable(model, [name])
    model = model.to(device or _device()).eval()
    cache = CacheBuild(
        Path(folder).expanduser(),
        CacheIndex({}, len(dataset), dataset.views, 0, (0, 0), 0, {}),
        dataset,
        model,
        batch_size or loader.batch_size,
        loader.get("num_workers", 0) if num_workers is None else num_workers,
        name,
    )
    cache.index = _index(cache, cfg, patches, components, shard_bytes)
    return cache


def format_plan(cache: CacheBuild) -> str:
    """Format what will be written, for the terminal."""
    index, missing = cache.index, cache.missing()
    count, width = index.patch_shape
    left = sum(len(shard) for shard in missing) * index.bytes_per_view
    per_token = "" if width == index.cls_dim else f", of {index.cls_dim} numbers each"
    lines = [
        f"{index.images:,} images x {index.views} views x {index.bytes_per_view:,} bytes = {index.bytes / GB:,.3f} GB",
        f"  cls       {index.cls_dim} float32, as the teacher gives it",
        f"  patches   {count} x {width} {index.patch_dtype} ({index.patches['type']}){per_token}",
        f"  files     {sum(1 for _ in index.shards()):,} of up to "
        f"{index.images_per_shard * index.bytes_per_view / 1e6:,.0f} MB in {cache.folder}",
        f"  missing   {left / GB:,.3f} GB in {len(missing):,} files",
        f"  free      {free_bytes(cache.folder) / GB:,.3f} GB",
    ]
    return "\n".join(lines)


def _index(
    cache: CacheBuild, cfg: Config, patches: str | None, components: int | None, shard_bytes: float
) -> CacheIndex:
    wanted = cache_fingerprint(cache.model, cfg.model, cache.dataset, cache.teacher)
    there = read_index(cache.folder)
    kind = patches or (there.patches["type"] if there is not None else "float16")
    if components is not None and kind != "int8-pca":
        raise UserError(f"components={components}: {kind} patches have none; write patches='int8-pca' as well")
    if there is None:
        first = cache.encode(distill_collate([CacheViews(cache.dataset)[0, 0]]))
        kept: dict[str, Any] = {"type": kind}
        if kind == "int8-pca":
            kept["components"] = components or min(_COMPONENTS, first.cls.shape[1])
        index = CacheIndex(
            wanted, len(cache.dataset), cache.dataset.views, first.cls.shape[1], first.grid, 1, kept, _versions()
        )
        rows = max(int(shard_bytes // index.bytes_per_view), 1)
        index.images_per_shard = rows // cache.batch_size * cache.batch_size or rows
        return index
    different = stale(there, wanted, 0)
    if patches is not None and patches != there.patches["type"]:
        different.append(f"patches: the cache has {there.patches['type']}, --patches is {patches}")
    if components is not None and components != there.patches.get("components"):
        different.append(f"components: the cache has {there.patches.get('components')}, --components is {components}")
    if different:
        raise StaleCacheError(
            "\n  ".join(
                [
                    f"{cache.folder} holds a different teacher cache:",
                    *different,
                    "name another folder with --out, or remove this one",
                ]
            )
        )
    there.views = max(there.views, cache.dataset.views)
    return there


def _teacher_name(cfg: Config, teacher: str | None) -> str:
    """Return the name of the teacher to be cached; empty if the run has only one."""
    known = [name for name, config in (cfg.model.get("teachers") or {}).items() if config is not None]
    if not known and teacher is None:
        return ""
    if teacher not in known:
        found = "the run has one teacher, without a name" if not known else f"choose one of {', '.join(known)}"
        raise ConfigError([f"--teacher {teacher or '(not given)'}: {found}"], str(cfg.filename))
    return str(teacher)


def _folder(cfg: Config, cache: Any, name: str) -> str:
    key = "train_dataloader.dataset.cache"
    if name and isinstance(cache, str):
        text = f"{key} is one folder, and the run has several teachers: write {key}=dict({name}='{cache}/{name}', ...)"
        raise ConfigError([text], str(cfg.filename))
    folder = (cache or {}).get(name) if name else cache
    if not isinstance(folder, str):
        where = f"{key}.{name}" if name else key
        raise ConfigError([f"{where} is not set: set it, or use --out"], str(cfg.filename))
    return folder


def _check_values(
    patches: str | None, components: int | None, batch_size: int | None, num_workers: int | None, shard_bytes: float
) -> None:
    if patches not in (None, "float16", "int8-pca"):
        raise UserError(f"patches={patches!r}: choose from: float16, int8-pca")
    least = {"components": (components, 1), "batch_size": (batch_size, 1), "num_workers": (num_workers, 0)}
    for name, (value, lowest) in least.items():
        if value is not None and not (type(value) is int and value >= lowest):
            raise UserError(f"{name}={value!r}: write an integer of at least {lowest}")
    if type(shard_bytes) not in (int, float) or not 0 < shard_bytes < float("inf"):
        raise UserError(f"shard_bytes={shard_bytes!r}: write a positive number")


def _join(cfg: Config) -> None:
    if cfg.get("launcher", "none") == "none":
        return
    prepare_processes(cfg)
    if not torch.distributed.is_initialized():
        init_dist(cfg.launcher, **(cfg.get("env_cfg") or {}).get("dist_cfg", {}))


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _versions() -> dict[str, str]:
    found = {"proteus": __version__}
    for name in ("torch", "torchvision", "timm", "pillow", "numpy", "opencv-python-headless"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
