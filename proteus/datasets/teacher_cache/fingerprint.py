"""What a teacher cache was made of, and how that differs from what a run has."""

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
from proteus.datasets.proxy.subsampling import NamedImages
from proteus.datasets.transforms.masks import is_mask_config
from proteus.structures import DataError

# Where images are, and what names a part of them: the images' names tell what that comes to.
_ELSEWHERE = {"data_root", "picture", "indices", "split", "held_out", "list_file", "images_per_class", "classes"}
_ELSEWHERE |= {"subset_seed", "pipeline", "index_cache"}


class StaleCacheError(DataError):
    """A teacher cache that was made of something else than what the run has."""


def dataset_fingerprint(config: Mapping[str, Any], dataset: ProxySet) -> dict[str, Any]:
    """What the images of a proxy set and their views depend on, beside the key.

    Masks do not count, as the teacher never sees them; nor does where the images lie.

    Args:
        config: What the set was built from.
        dataset: The set.

    Returns:
        ``images``: ``count`` and a digest of the ``names``; ``transform``: the steps; ``dataset``: other keys.
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
    """A config's value as JSON gives it back, without the scope before the names of types."""
    return _unscoped(json.loads(json.dumps(value, sort_keys=True, default=str)))


def differences(found: Any, wanted: Any, key: str = "") -> list[str]:
    """Say in what a cache differs from a run, one line for each key.

    Args:
        found: What the cache was made of.
        wanted: What the run has.
        key: Where both stand.
    """
    if found == wanted:
        return []
    if isinstance(found, dict) and isinstance(wanted, dict):
        return [
            line
            for name in sorted(found.keys() | wanted.keys())
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
    elif isinstance(dataset, NamedImages):
        yield from dataset.names()
    else:
        paths = [str(dataset.get_data_info(index).get("img_path", index)) for index in range(len(dataset))]
        folder = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
        yield from (os.path.relpath(path, folder) if folder else path for path in paths)


def _split(config: Any) -> tuple[Any, Any]:
    """Part a set's config into its transform and its other keys."""
    transform: Any = [_step(step) for step in config.get("pipeline") or () if _counts(step)]
    rest = {key: value for key, value in config.items() if key not in _ELSEWHERE}
    members = config.get("datasets")
    if isinstance(members, dict):
        parts = {name: _split(member) for name, member in members.items() if member is not None}
        own = {name: part[0] for name, part in parts.items() if part[0]}
        transform = {"all": transform, **own} if own else transform
        rest["datasets"] = {name: part[1] for name, part in parts.items()}
    return transform, rest


def _counts(step: dict[str, Any]) -> bool:
    return not is_mask_config(step) and str(step["type"]).rpartition(".")[2] != "PackInputs"


def _step(step: dict[str, Any]) -> dict[str, Any]:
    # Keeping images in memory changes none.
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
