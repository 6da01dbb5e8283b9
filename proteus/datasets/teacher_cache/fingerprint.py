"""Fingerprint of the views of a teacher cache, and its differences from those of a run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from proteus.datasets.proxy.concat import ConcatProxySet
from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.datasets.proxy.single_image import SingleImage
from proteus.datasets.proxy.subsampling import SubsampledProxySet
from proteus.datasets.transforms import MaskTransform, PackInputs
from proteus.registry import TRANSFORMS
from proteus.structures import DataError

# Keys that locate, copy or select images. The digest of the images' names covers their effect.
_COVERED_BY_NAMES = {"data_root", "picture", "indices", "split", "held_out", "list_file", "images_per_class", "classes"}
_COVERED_BY_NAMES |= {"subset_seed", "pipeline", "index_cache", "num_classes", "cache_dir", "cache_gb", "read_ahead"}


class StaleCacheError(DataError):
    """A teacher cache that was built from other data or another teacher than those of the run."""


def dataset_fingerprint(config: Mapping[str, Any], dataset: ProxySet) -> dict[str, Any]:
    """Describe everything except the key that the views of a proxy set depend on.

    Masks do not count, since the teacher never sees them; neither does the location of the images.

    Args:
        config: Config of the set.
        dataset: The set.

    Returns:
        ``images``: ``count`` and a digest of the ``names``; ``transform``: the transforms; ``dataset``: all other keys.
    """
    digest = hashlib.sha256()
    for name in _names(dataset):
        digest.update(name.encode(errors="surrogateescape") + b"\n")
    transform, rest = _split(plain(config))
    return {
        "images": {"count": len(dataset), "names": digest.hexdigest()},
        "transform": transform,
        "dataset": rest,
    }


def plain(value: Any) -> Any:
    """Convert a config value to plain JSON types, without scopes in type names."""
    return _unscoped(json.loads(json.dumps(value, sort_keys=True, default=str)))


def differences(found: Any, wanted: Any, key: str = "") -> list[str]:
    """List the differences between a cache and a run, one line per key.

    Args:
        found: Fingerprint of the cache.
        wanted: Fingerprint of the run.
        key: Key of both values.
    """
    if found == wanted:
        return []
    if isinstance(found, dict) and isinstance(wanted, dict):
        # Those of older caches have keys without effect; the keys of "datasets" are names of sets.
        is_set = key.startswith("dataset") and not key.endswith(".datasets")
        return [
            line
            for name in sorted((found.keys() | wanted.keys()) - (_COVERED_BY_NAMES if is_set else set()))
            for line in differences(found.get(name), wanted.get(name), f"{key}.{name}" if key else name)
        ]
    typed = [isinstance(value, list) and all(isinstance(v, dict) for v in value) for value in (found, wanted)]
    if all(typed) and len(found) == len(wanted):
        pairs = enumerate(zip(found, wanted, strict=True))
        return [line for position, pair in pairs for line in differences(*pair, f"{key}[{position}]")]
    return [f"{key}: the cache was built with {_short(found)}, this run has {_short(wanted)}"]


def _names(dataset: ProxySet) -> Iterator[str]:
    if isinstance(dataset, ConcatProxySet):
        for (name, member), count in zip(dataset.members.items(), dataset.counts, strict=True):
            yield f"{name} {count}"
            yield from _names(member)
    elif isinstance(dataset, SingleImage):
        yield hashlib.sha256(Path(dataset.path).read_bytes()).hexdigest()
    elif isinstance(dataset, SubsampledProxySet):
        yield from dataset.names()
    else:
        paths = [str(dataset.get_data_info(index).get("img_path", index)) for index in range(len(dataset))]
        folder = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
        yield from (os.path.relpath(path, folder) if folder else path for path in paths)


def _split(config: Any) -> tuple[Any, Any]:
    """Split the config of a set into its transforms and its other keys."""
    transform: Any = [_step(step) for step in config.get("pipeline") or () if _affects_views(step)]
    rest = {key: value for key, value in config.items() if key not in _COVERED_BY_NAMES}
    members = config.get("datasets")
    if isinstance(members, dict):
        parts = {name: _split(member) for name, member in members.items() if member is not None}
        own = {name: part[0] for name, part in parts.items() if part[0]}
        transform = {"all": transform, **own} if own else transform
        rest["datasets"] = {name: part[1] for name, part in parts.items()}
    return transform, rest


def _affects_views(step: dict[str, Any]) -> bool:
    kind = step["type"]
    target = TRANSFORMS.get(kind) if isinstance(kind, str) else kind
    return not (isinstance(target, type) and issubclass(target, (MaskTransform, PackInputs)))


def _step(step: dict[str, Any]) -> dict[str, Any]:
    # Caching of images does not change them.
    return {key: value for key, value in step.items() if key not in ("cache_in_memory", "cache_last")}


def _unscoped(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: item.removeprefix("proteus.") if key == "type" and isinstance(item, str) else _unscoped(item)
            for key, item in value.items()
            if key != "_scope_"
        }
    return [_unscoped(item) for item in value] if isinstance(value, list) else value


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str) and len(value) == 64:  # a digest
        return value[:12]
    if isinstance(value, Sequence) and not isinstance(value, str) and value and isinstance(value[0], dict):
        return " > ".join(str(step.get("type", step)) for step in value)
    text = json.dumps(value)
    return text if len(text) < 80 else text[:77] + "..."
