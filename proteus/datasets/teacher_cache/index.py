"""Index of a teacher cache, ``index.json``."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from proteus.structures import DataError
from proteus.utils import write_json

FORMAT = 1
INDEX = "index.json"
# Upper limits: a damaged number must not allocate millions of names or a huge array.
_MAX_SIZE, _MAX_FILES = 2**50, 2**24
_REMEDY = "remove it and build the cache again (proteus cache)"


class CacheError(DataError):
    """A teacher cache that is missing, unfinished or damaged."""


class Shard(NamedTuple):
    """A file of the cache, with consecutive images of one view.

    Attributes:
        name: File name.
        view: The view.
        start: First image.
        stop: End of the images (exclusive).
    """

    name: str
    view: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass
class CacheIndex:
    """Description of a teacher cache.

    Each shard has images of only one view, so that views can be added without rewriting files.

    Attributes:
        identity: Fingerprint of teacher, views and images, which must be equal in a run that reads the cache.
        images: Number of images.
        views: Number of views per image.
        cls_dim: Width of the cls token.
        grid: Size ``(h, w)`` of the patch grid.
        images_per_shard: Images per shard; the last shard of a view has the rest.
        patches: Encoding of the patch tokens: ``type`` and its parameters.
        built_with: Versions of the libraries that made the views and the tokens.
        complete: Whether all shards have been written.
        patch_error: Squared error of the decoded patch tokens, divided by their variance.
        replaced: Number of views that show a replacement of an unreadable image.
    """

    identity: dict[str, Any]
    images: int
    views: int
    cls_dim: int
    grid: tuple[int, int]
    images_per_shard: int
    patches: dict[str, Any]
    built_with: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    patch_error: float | None = None
    replaced: int = 0

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Shape of the stored patch tokens of an image: ``(N, D)``, or ``(N, r)`` for PCA."""
        return self.grid[0] * self.grid[1], int(self.patches.get("components", self.cls_dim))

    @property
    def patch_dtype(self) -> str:
        """NumPy dtype of the stored patch tokens."""
        return "int8" if self.patches["type"] == "int8-pca" else "float16"

    @property
    def bytes_per_view(self) -> int:
        """Size on disk of one view of one image, without the header of the shard."""
        count, width = self.patch_shape
        return 4 * self.cls_dim + count * width * (1 if self.patch_dtype == "int8" else 2) + 12

    @property
    def bytes(self) -> int:
        """Size on disk of all views of all images."""
        return self.images * self.views * self.bytes_per_view

    def shards(self) -> Iterator[Shard]:
        """List all files, view by view."""
        for view in range(self.views):
            for number, start in enumerate(range(0, self.images, self.images_per_shard)):
                stop = min(start + self.images_per_shard, self.images)
                yield Shard(f"view-{view:03}-{number:05}.safetensors", view, start, stop)

    def find(self, image: int, view: int) -> tuple[str, int]:
        """Return the name of the shard of an image's view, and the row in it."""
        number, row = divmod(image, self.images_per_shard)
        return f"view-{view:03}-{number:05}.safetensors", row


def read_index(folder: str | Path) -> CacheIndex | None:
    """Read the index of a cache; None if it does not exist.

    Raises:
        CacheError: The index is damaged, or has another version of the format.
    """
    path = Path(folder).expanduser() / INDEX
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.pop("format")
        if version != FORMAT:
            raise CacheError(f"{path} has format {version!r}, but this version of Proteus reads {FORMAT}: {_REMEDY}")
        index = CacheIndex(**{**content, "grid": tuple(content["grid"])})
        _check(index)
        return index
    except CacheError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CacheError(f"{path} is damaged or unreadable ({type(error).__name__}: {error}): {_REMEDY}") from error


def write_index(folder: str | Path, index: CacheIndex) -> None:
    """Write the index atomically.

    Raises:
        FullDiskError: The disk is full.
    """
    write_json(Path(folder) / INDEX, {"format": FORMAT, **dataclasses.asdict(index)}, indent=1)


def is_count(value: Any, low: int = 0) -> bool:
    """Whether a value from a file is an integer from ``low`` to the largest plausible size; ``True`` is not."""
    return type(value) is int and low <= value <= _MAX_SIZE


def _check(index: CacheIndex) -> None:
    """Check for impossible values.

    Raises:
        ValueError: A value is invalid; the message names the key.
    """
    counts = {name: getattr(index, name) for name in ("images", "views", "cls_dim", "images_per_shard")}
    wrong = [f"{name}={value!r}" for name, value in counts.items() if not is_count(value, 1)]
    wrong += [] if is_count(index.replaced) else [f"replaced={index.replaced!r}"]
    # A teacher without patch tokens: (0, 0).
    fits = len(index.grid) == 2 and all(map(is_count, index.grid)) and all(index.grid) == any(index.grid)
    wrong += [] if fits else [f"grid={index.grid!r}"]
    wrong += [] if type(index.complete) is bool else [f"complete={index.complete!r}"]
    wrong += [
        f"{name}={value!r}"
        for name, value in (("identity", index.identity), ("built_with", index.built_with))
        if not isinstance(value, dict)
    ]
    error: Any = index.patch_error
    if error is not None and not (type(error) in (int, float) and math.isfinite(error) and error >= 0):
        wrong.append(f"patch_error={error!r}")
    if wrong:
        raise ValueError(", ".join(wrong)[:200])
    kind: Any = index.patches["type"]
    components: Any = index.patches.get("components")
    if kind == "int8-pca" and not (is_count(components, 1) and components <= index.cls_dim):
        raise ValueError(f"patches.components={components!r}, of tokens of width {index.cls_dim}")
    if kind != "int8-pca" and components is not None:
        raise ValueError(f"patches.components={components!r} of type {kind!r}")
    if index.bytes > _MAX_SIZE or index.views * math.ceil(index.images / index.images_per_shard) > _MAX_FILES:
        raise ValueError(f"{index.images} images of {index.grid} tokens in files of {index.images_per_shard}")
