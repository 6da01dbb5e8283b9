"""The file that lists the images of a set of shards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proteus.datasets.shards.entries import Entries, Entry
from proteus.structures import DataError
from proteus.utils import atomic_path

INDEX = "proteus-index.json"
UNFINISHED = "proteus-packing.json"
_VERSION = 1
_ROWS = '"shards": [\n'


@dataclass
class Shard:
    """One tar file.

    Attributes:
        name: File name.
        bytes: File size.
        images: Name, offset and size in bytes of each image.
        skipped: Number of image files that are not the image of a sample, such as ``0001.mask.png``.
        cut: Whether the file was truncated when the index was written.
        tag: ETag or time of change of a remote file when it was packed.
    """

    name: str
    bytes: int
    images: Sequence[Entry]
    skipped: int = 0
    cut: bool = False
    tag: str = ""

    def lost(self, size: int) -> int:
        """Return how many images are not complete within the first ``size`` bytes."""
        return sum(offset + length > size for _, offset, length in self.images)


@dataclass
class Index:
    """The shards of a folder.

    Attributes:
        shards: The shards, sorted by name.
        settings: Settings of packing; empty for shards of other tools.
        left_out: Images that could not be packed, with the reasons.
        url: URL that the shards were packed to, where their tags were noted; empty for a folder.
    """

    shards: list[Shard]
    settings: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    url: str = ""


def write_index(path: Path, index: Index) -> None:
    """Write an index atomically: JSON with one shard a line, so that it can be read line by line."""
    summary = {"images": sum(len(shard.images) for shard in index.shards), "shards": len(index.shards)}
    about = {"settings": index.settings, "left_out": index.left_out, **({"url": index.url} if index.url else {})}
    head = json.dumps({"version": _VERSION, **summary, "index": about})
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f"{head[:-2]}, {_ROWS}")
        for number, shard in enumerate(index.shards):
            row = {**vars(shard), "images": list(shard.images)}
            if not shard.tag:
                del row["tag"]
            file.write(",\n" * (number > 0) + json.dumps(row, separators=(",", ":")))
        file.write("\n]}}\n")


def load_index(path: Path, name: str = "") -> Index | None:
    """Read an index; None if the file cannot be opened.

    Args:
        path: The file.
        name: What to call it in messages.

    Raises:
        DataError: The file is damaged, or not an index; the message names it.
    """
    name = name or str(path)
    try:
        with path.open(encoding="utf-8") as file:
            first = file.readline()
            if first.endswith(_ROWS):
                content, rows = json.loads(f"{first}]}}}}"), _rows(file)
            else:
                content = json.loads(first + file.read())
                rows = None
            if isinstance(content, dict) and content.get("version", _VERSION) != _VERSION:
                raise DataError(f"{name} was written by another version; remove it to write it again")
            index = content["index"]
            shards = [_shard(**row) for row in (index["shards"] if rows is None else rows)]
        found = Index(shards, dict(index["settings"]), dict(index["left_out"]), str(index.get("url", "")))
        if len({shard.name for shard in found.shards}) < len(found.shards):
            raise ValueError("a shard is listed twice")
        return found
    except OSError:
        return None
    except DataError:
        raise
    except json.JSONDecodeError as error:
        raise DataError(f"{name} is damaged ({error}); remove it to write it again") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise DataError(f"{name} is damaged ({type(error).__name__}: {error}); remove it to write it again") from error


def _rows(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        if line == "]}}\n":
            return
        yield json.loads(line.removesuffix("\n").removesuffix(","))
    raise ValueError("the end is missing")


def _shard(name: str, bytes: int, images: Any, skipped: int = 0, cut: bool = False, tag: str = "") -> Shard:
    if not isinstance(name, str) or not name.endswith(".tar") or "/" in name or not isinstance(tag, str):
        raise ValueError(f"{name!r} is not a shard name")
    try:
        entries = Entries(images)
    except ValueError as error:
        raise ValueError(f"{error} in {name}") from error
    if len(entries) and min(entries.offsets.min(), entries.sizes.min()) < 0:
        raise ValueError(f"negative position in {name}")
    return Shard(name, int(bytes), entries, int(skipped), bool(cut), tag)
