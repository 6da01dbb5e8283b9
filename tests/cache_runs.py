"""The small recipe with fixed views, and its teacher cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config

from proteus.apis import load_config
from proteus.apis.cache_teacher import CacheBuild, build, prepare

FIXED = """
train_dataloader["dataset"] = dict(
    _delete_=True,
    type="FixedViews",
    views=2,
    cache="{cache}",
    dataset=dict(type="ImageFolder", data_root="{images}", pipeline=train_pipeline),
)
"""
# 24 images of 2316 bytes: three files a view.
SHARD_BYTES = 20_000


def write_fixed(small: Path, path: Path, images: Path, cache: Path) -> Path:
    """Write a config that extends ``small`` with two fixed views of each image."""
    path.write_text(small.read_text() + FIXED.format(images=images, cache=cache))
    return path


def job_of(config: Path, options: dict[str, Any] | None = None, **arguments: Any) -> CacheBuild:
    """What is to be done for a config's cache, in small files."""
    cfg: Config = load_config(config, options)
    return prepare(cfg, device="cpu", **{"shard_bytes": SHARD_BYTES, **arguments})


def built(config: Path, options: dict[str, Any] | None = None, **arguments: Any) -> CacheBuild:
    """A finished cache."""
    job = job_of(config, options, **arguments)
    build(job)
    return job


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a cache except its lock."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".lock"}
