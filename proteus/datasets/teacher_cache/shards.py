"""Write the shards of a teacher cache."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from proteus.datasets.teacher_cache.encodings import Encoding
from proteus.datasets.teacher_cache.index import CacheError, CacheIndex, Shard
from proteus.utils import atomic_path, disk_full_errors

_REMEDY = "finished shards are kept: free disk space and run the same command again"


class ShardBuilder:
    """Collect the rows of one shard and write them at once.

    A shard has, by row: ``cls`` ``(R, D)`` float32; ``patches`` ``(R, N, D)`` float16 or ``(R, N, r)`` int8;
    ``corrupt`` ``(R,)`` uint32, the number of unreadable images before the one that is shown; ``pixels`` ``(R,)``
    uint32, a checksum of the view; and ``checksum`` ``(R,)`` uint32, of the stored tokens.

    Args:
        index: Index of the cache.
        shard: The shard.
        encoding: Encoding of the patch tokens.
    """

    def __init__(self, index: CacheIndex, shard: Shard, encoding: Encoding) -> None:
        rows = len(shard)
        self.shard = shard
        self.encoding = encoding
        self.rows = 0
        self.content = {
            "cls": np.zeros((rows, index.cls_dim), np.float32),
            "patches": np.zeros((rows, *index.patch_shape), index.patch_dtype),
            **{name: np.zeros(rows, np.uint32) for name in ("corrupt", "pixels", "checksum")},
        }
        self.squared_error = 0.0
        self._sum = np.zeros(index.cls_dim)
        self._sum_of_squares = 0.0
        self._tokens = 0

    @property
    def full(self) -> bool:
        """Whether all rows have been added."""
        return self.rows == len(self.shard)

    def add(self, cls: Tensor, patches: Tensor, corrupt: list[int], pixels: list[int]) -> None:
        """Add rows.

        Args:
            cls: ``(B, D)`` float32.
            patches: ``(B, N, D)`` float32.
            corrupt: For each image, the number of unreadable images before it.
            pixels: For each image, :func:`pixels_of` of its view.

        Raises:
            CacheError: Tokens are not finite, or exceed half precision.
        """
        stored = self.encoding.encode(patches)
        restored = self.encoding.restore(stored)
        # Readers return half precision for every encoding.
        if not bool(cls.isfinite().all() & patches.isfinite().all() & restored.half().isfinite().all()):
            first = self.shard.start + self.rows
            raise CacheError(
                f"images {first:,} to {first + len(cls) - 1:,}, view {self.shard.view}: the teacher's tokens are not "
                "finite, or exceed float16 (65504), the format of caches: check the teacher's weights, or write "
                "model.teacher.dtype=float32"
            )
        self.squared_error += float((restored - patches).double().square().sum())
        tokens = patches.flatten(0, 1).double()
        self._sum = self._sum + tokens.sum(0).cpu().numpy()
        self._sum_of_squares += float(tokens.square().sum())
        self._tokens += len(tokens)
        here = slice(self.rows, self.rows + len(cls))
        self.content["cls"][here] = cls.float().cpu().numpy()
        self.content["patches"][here] = stored.cpu().numpy()
        self.content["corrupt"][here] = corrupt
        self.content["pixels"][here] = pixels
        for row in range(here.start, here.stop):
            self.content["checksum"][row] = checksum(self.content["cls"][row], self.content["patches"][row])
        self.rows = here.stop

    def write(self, folder: Path) -> None:
        """Write the shard atomically.

        Raises:
            FullDiskError: The disk is full; finished shards are kept.
        """
        variance = float(self._sum_of_squares - np.square(self._sum).sum() / max(self._tokens, 1))
        # A single entry, since the library does not keep the order of several.
        about = {"about": json.dumps({"squared_error": self.squared_error, "variance": variance}, sort_keys=True)}
        path = folder / self.shard.name
        with disk_full_errors(path, _REMEDY), atomic_path(path) as temporary:
            temporary.write_bytes(save(self.content, about))


def is_whole(path: Path, index: CacheIndex, shard: Shard) -> bool:
    """Whether a shard exists with the shapes of the index; its values are not checked."""
    rows, kind = len(shard), "I8" if index.patch_dtype == "int8" else "F16"
    wanted = {"cls": ("F32", (rows, index.cls_dim)), "patches": (kind, (rows, *index.patch_shape))}
    wanted |= dict.fromkeys(("corrupt", "pixels", "checksum"), ("U32", (rows,)))
    try:
        with safe_open(path, "numpy") as file:
            slices = {name: file.get_slice(name) for name in wanted}
            return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()} == wanted
    except (OSError, SafetensorError):
        return False


def errors_of(path: Path) -> tuple[float, float, int]:
    """Return squared error and variance of a shard's patch tokens, and the number of its views with a replaced image.

    Raises:
        CacheError: The shard is damaged.
    """
    try:
        with safe_open(path, "numpy") as file:
            about = json.loads(file.metadata()["about"])
            errors = float(about["squared_error"]), float(about["variance"])
            replaced = int((file.get_tensor("corrupt") > 0).sum())
        if not all(math.isfinite(error) for error in errors):
            raise ValueError(f"squared_error and variance are {errors}")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CacheError(
            f"{path} is damaged ({type(error).__name__}: {error}): remove it and run the same command again"
        ) from error
    return *errors, replaced


def checksum(cls: np.ndarray, patches: np.ndarray) -> int:
    """Return the CRC-32 of the stored tokens of one row."""
    return zlib.crc32(np.ascontiguousarray(patches).data, zlib.crc32(np.ascontiguousarray(cls).data))


def pixels_of(sample: Mapping[str, Any]) -> int:
    """CRC-32 of a view's pixels and of the box that the data preprocessor erases in them."""
    pixels = zlib.crc32(memoryview(sample["inputs"].contiguous().numpy()))
    return zlib.crc32(repr(sample.get("erase")).encode(), pixels)
