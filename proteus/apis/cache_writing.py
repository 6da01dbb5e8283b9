"""Write the files of a teacher cache: run the teacher over fixed views, and resume after an interruption."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, get_dist_info
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from proteus.config.build_errors import as_config_error
from proteus.datasets import FixedViews, distill_collate
from proteus.datasets.teacher_cache import (
    CacheIndex,
    Encoding,
    Int8PCA,
    Shard,
    ShardBuilder,
    StaleCacheError,
    is_whole,
    load_encoding,
    pixels_of,
    read_index,
    write_index,
)
from proteus.datasets.teacher_cache.encodings import PCA_FILE
from proteus.datasets.teacher_cache.shards import errors_of
from proteus.structures import Features, FullDiskError
from proteus.utils import disk_full_errors, exclusive

GB = 1e9
"""Bytes."""
# Views and tokens that the principal components are computed from.
_SAMPLE_VIEWS = 1024
_SAMPLE_TOKENS = 65536


@dataclass
class CacheBuild:
    """A teacher cache to build or to complete.

    Attributes:
        folder: Folder of the cache.
        index: Index of the complete cache.
        dataset: The fixed views.
        model: The distiller with the teacher, on its device.
        teacher: Name of one of several teachers; empty for the only one.
        batch_size: Images per forward pass.
        num_workers: Worker processes that read images.
    """

    folder: Path
    index: CacheIndex
    dataset: FixedViews
    model: Any
    batch_size: int
    num_workers: int
    teacher: str = ""

    def missing(self) -> list[Shard]:
        """Return the shards that are missing or incomplete."""
        return [shard for shard in self.index.shards() if not is_whole(self.folder / shard.name, self.index, shard)]

    @torch.inference_mode()
    def encode(self, batch: dict[str, Any]) -> Features:
        """Return the teacher's features of a collated batch, as in a training step."""
        images = self.model.data_preprocessor(batch, training=True)["inputs"]
        teacher = self.model.teachers_by_name[self.teacher] if self.teacher else self.model.teacher
        features: Features = teacher(images)
        return features


def build(cache: CacheBuild) -> CacheIndex:
    """Write the missing files of a cache.

    Files are written atomically: an interruption loses at most the current file of each rank. The folder is locked.

    Raises:
        FullDiskError: The disk is too small or full; finished files are kept.
        LockedError: Another build is running in the folder.
        StaleCacheError: Another build has written a different cache there since ``prepare``.
        CacheError: Tokens are not finite.
    """
    _check_room(cache, cache.missing())
    barrier()
    remedy = "wait for it, or name another folder with --out; finished files are kept"
    with exclusive(cache.folder, "building a teacher cache", remedy=remedy):
        _check_unchanged(cache)
        missing = cache.missing()
        barrier()
        _build(cache, missing)
    return cache.index


def _build(cache: CacheBuild, missing: list[Shard]) -> None:
    index = cache.index
    rank, world = get_dist_info()
    if rank == 0:
        with disk_full_errors(cache.folder, "finished files are kept: make room and run the same command again"):
            index.complete = index.complete and not missing
            write_index(cache.folder, index)
            if index.patches["type"] == "int8-pca" and not (cache.folder / PCA_FILE).is_file():
                _fit(cache).save(cache.folder)
    barrier()
    encoding = load_encoding(index, cache.folder)
    with tqdm(
        total=sum(len(shard) for shard in missing[rank::world]),
        desc="teacher cache" if world == 1 else f"teacher cache, rank 0 of {world}",
        unit="view",
        disable=rank != 0,
        # Outside a terminal, a progress bar would fill the log.
        mininterval=0.5 if sys.stderr.isatty() else 30.0,
    ) as bar:
        for count in _write(cache, missing[rank::world], encoding):
            bar.update(count)
    barrier()
    if rank == 0:
        _finish(cache)
    barrier()


def _check_unchanged(cache: CacheBuild) -> None:
    there, planned = read_index(cache.folder), cache.index
    if there is None:
        return
    same = ("identity", "images", "cls_dim", "grid", "images_per_shard", "patches")
    if there.views > planned.views or any(getattr(there, name) != getattr(planned, name) for name in same):
        raise StaleCacheError(
            f"{cache.folder}: another build has written a cache there in the meantime; run the same command again, "
            "which continues it if it fits"
        )


def _write(cache: CacheBuild, shards: list[Shard], encoding: Encoding) -> Iterator[int]:
    batches = [
        [(image, shard.view) for image in range(start, min(start + cache.batch_size, shard.stop))]
        for shard in shards
        for start in range(shard.start, shard.stop, cache.batch_size)
    ]
    loader = _loader(cache, batches)
    reported: set[str] = set()
    for shard in shards:
        builder = ShardBuilder(cache.index, shard, encoding)
        while not builder.full:
            batch = next(loader)
            features = cache.encode(batch)
            data_samples = batch["data_samples"]
            corrupt, pixels = ([each.get(key) for each in data_samples] for key in ("corrupt", "pixels"))
            for name in sorted({name for names in corrupt for name in names} - reported):
                reported.add(name)
                tqdm.write(f"corrupt image, replaced by another: {name}", file=sys.stderr)
            builder.add(features.cls, features.patches, [len(names) for names in corrupt], pixels)
            yield len(data_samples)
        builder.write(cache.folder)


def _fit(cache: CacheBuild) -> Int8PCA:
    """Fit the principal components to patch tokens of evenly spaced views."""
    count = min(_SAMPLE_VIEWS, cache.index.images)
    rows = [(number * cache.index.images // count, number % cache.index.views) for number in range(count)]
    batches = [rows[start : start + cache.batch_size] for start in range(0, count, cache.batch_size)]
    per_view = max(_SAMPLE_TOKENS // count, 1)
    generator = torch.Generator().manual_seed(0)
    sample: list[Tensor] = []
    for batch in tqdm(_loader(cache, batches), total=len(batches), desc="principal components", unit="batch"):
        for patches in cache.encode(batch).patches:
            chosen = torch.randperm(len(patches), generator=generator)[:per_view]
            sample.append(patches[chosen.to(patches.device)])
    with as_config_error("--components"):
        return Int8PCA.fit(torch.cat(sample), cache.index.patches["components"])


def _finish(cache: CacheBuild) -> None:
    errors = [errors_of(cache.folder / shard.name) for shard in cache.index.shards()]
    squared, variance = (sum(column) for column in list(zip(*errors, strict=True))[:2])
    cache.index.patch_error = squared / max(variance, sys.float_info.min)
    cache.index.replaced = sum(replaced for _, _, replaced in errors)
    cache.index.complete = True
    write_index(cache.folder, cache.index)


def _check_room(cache: CacheBuild, missing: list[Shard]) -> None:
    needed, free = sum(len(shard) for shard in missing) * cache.index.bytes_per_view, free_bytes(cache.folder)
    if needed > free:
        raise FullDiskError(
            f"{cache.folder}: {needed / GB:,.3f} GB are missing and {free / GB:,.3f} GB are free: make "
            "room, or use another --out, fewer views, or --patches int8-pca with fewer --components"
        )


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that a folder is on, or will be."""
    while not folder.exists():
        folder = folder.absolute().parent
    return shutil.disk_usage(folder).free


class CacheViews(Dataset[dict[str, Any]]):
    """Fixed views by image and view, without masks and with a checksum of the pixels."""

    def __init__(self, dataset: FixedViews) -> None:
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        sample = self.dataset.view(*key)
        sample.pop("mask", None)
        sample["data_samples"].set_metainfo({"pixels": pixels_of(sample)})
        return sample


def _loader(cache: CacheBuild, batches: list[list[tuple[int, int]]]) -> Iterator[dict[str, Any]]:
    return iter(
        DataLoader(
            CacheViews(cache.dataset),
            batch_sampler=batches,
            num_workers=cache.num_workers,
            collate_fn=distill_collate,
            pin_memory=torch.cuda.is_available(),
        )
    )
