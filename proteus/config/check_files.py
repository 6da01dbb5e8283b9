"""Find weights and data that a config names and this machine lacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mmengine.config import Config

from proteus.checkpoints import locate
from proteus.config.suggestions import nearest_file
from proteus.structures import ConfigError
from proteus.utils.urls import check_url, is_url

_FILES = ("checkpoint", "data_root", "load_from", "picture", "list_file", "features", "labels")


class Missing(NamedTuple):
    """A missing file or folder that a config names."""

    key: str
    path: str

    def __str__(self) -> str:
        return f"{self.key} = {self.path!r}"


def check_files(cfg: Config, sections: Sequence[str]) -> None:
    """Refuse a config with missing weights or data.

    Args:
        cfg: The config.
        sections: Top-level keys to check.

    Raises:
        ConfigError: Names each key and path.
    """
    missing = [entry for entry in missing_files(cfg) if entry.key.split(".")[0] in sections]
    if missing:
        remedy = "create it, or name another path with --cfg-options"
        raise ConfigError(
            [f"{entry} does not exist{_like(entry.path)}; {remedy} {entry.key}=..." for entry in missing],
            str(cfg.filename),
        )


def missing_files(cfg: Config) -> list[Missing]:
    """Return the weights and data folders that a config names and this machine lacks."""
    return [
        Missing(key, path)
        for key, path in paths(cfg.to_dict())
        # MMEngine downloads load_from.
        if not (key == "load_from" and "://" in path) and not locate(path).exists()
    ]


def _like(path: str) -> str:
    near = nearest_file(locate(path))
    return "" if near is None else f" (there is '{near}')"


def paths(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the key and value of each file or folder name, without the URLs of remote shards.

    Raises:
        DataError: A URL holds credentials.
    """
    if isinstance(value, dict):
        for name, item in value.items():
            here = f"{key}.{name}" if key else str(name)
            if name == "data_root" and is_url(item) and str(value.get("type")).endswith("WebShards"):
                check_url(here, item)
            elif name in _FILES and isinstance(item, str) and item:
                yield here, item
            else:
                yield from paths(item, here)
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            yield from paths(item, f"{key}[{position}]")
