"""How patch tokens are kept on disk."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import Tensor

from proteus.datasets.teacher_cache.index import CacheError, CacheIndex
from proteus.utils import write_bytes

PCA_FILE = "pca.safetensors"


class Encoding(ABC):
    """Patch tokens to what is stored, and back."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Type and parameters, for the index."""

    @abstractmethod
    def encode(self, patches: Tensor) -> Tensor:
        """Turn ``(B, N, D)`` into what is stored, on the tokens' device."""

    @abstractmethod
    def restore(self, stored: Tensor) -> Tensor:
        """Turn what is stored back into tokens ``(B, N, D)`` in float32, on its device."""

    @abstractmethod
    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Turn one image's stored tokens back into ``(N, D)`` float16."""


class Float16(Encoding):
    """Every number rounded to half precision: 11 significant bits, two bytes each."""

    def description(self) -> dict[str, Any]:
        """Type alone."""
        return {"type": "float16"}

    def encode(self, patches: Tensor) -> Tensor:
        """Round ``(B, N, D)``."""
        return patches.half()

    def restore(self, stored: Tensor) -> Tensor:
        """Turn ``(B, N, D)`` to float32."""
        return stored.float()

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Return it as it is."""
        return stored


class Int8PCA(Encoding):
    """The first principal components of the tokens, each rounded to 255 steps of its own size.

    Args:
        mean: Mean token, ``(D,)`` float32.
        basis: Directions of unit length as rows, ``(r, D)`` float32, that of the largest variance first.
        scale: Step of each component, ``(r,)`` float32.
    """

    def __init__(self, mean: np.ndarray, basis: np.ndarray, scale: np.ndarray) -> None:
        self.mean, self.basis, self.scale = mean, basis, scale
        self._scaled = scale[:, None] * basis
        self._tensors: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}

    @classmethod
    def fit(cls, tokens: Tensor, components: int) -> Int8PCA:
        """Find the components of a sample of tokens.

        Args:
            tokens: ``(M, D)``.
            components: How many to keep. The step of each lets the sample's largest value reach the last step.

        Raises:
            ValueError: There are not so many.
        """
        count, width = tokens.shape
        if not 0 < components <= min(width, count - 1):
            raise ValueError(
                f"components={components}: write a number from 1 to {min(width, count - 1)} (tokens have {width} "
                f"numbers, and the sample {count} tokens)"
            )
        mean = tokens.double().mean(0)
        # In pieces, as the sample in double precision would take twice its memory again.
        covariance = sum((piece.double() - mean).T @ (piece.double() - mean) for piece in tokens.split(8192))
        vectors = torch.linalg.eigh(covariance)[1].flip(1)[:, :components]
        # An eigenvector's sign is arbitrary; this makes it the same everywhere.
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
        basis = (vectors * largest.sign()).T.float()
        most = torch.stack([((piece - mean.float()) @ basis.T).abs().amax(0) for piece in tokens.split(8192)]).amax(0)
        scale = (most / 127).clamp_min(torch.finfo(torch.float32).tiny)
        return cls(*(value.cpu().numpy() for value in (mean.float(), basis, scale)))

    @classmethod
    def load(cls, folder: Path) -> Int8PCA:
        """Read what :meth:`save` wrote.

        Raises:
            CacheError: It is missing or damaged.
        """
        path = folder / PCA_FILE
        try:
            content = load_file(path)
            mean, basis, scale = values = tuple(content[name] for name in ("mean", "basis", "scale"))
            # Caches of the first release have none.
            if "checksum" in content and int(content["checksum"]) != _checksum(values):
                raise ValueError("its checksum differs")
            if basis.ndim != 2 or basis.shape != (*scale.shape, *mean.shape):
                raise ValueError(f"mean {mean.shape}, basis {basis.shape} and scale {scale.shape} do not fit")
            if any(value.dtype != np.float32 or not np.isfinite(value).all() for value in (mean, basis, scale)):
                raise ValueError("values are not finite, or not float32")
        except (OSError, KeyError, SafetensorError, ValueError, TypeError) as error:
            raise CacheError(
                f"{path} is missing or damaged ({error}): the tokens cannot be restored without it; remove the folder "
                "and build the cache again (tools/cache_teacher.py)"
            ) from error
        return cls(mean, basis, scale)

    def save(self, folder: Path) -> None:
        """Write ``pca.safetensors`` atomically.

        Raises:
            FullDiskError: The disk is full.
        """
        values = {"mean": self.mean, "basis": self.basis, "scale": self.scale}
        checksum = np.array(_checksum(tuple(values.values())), np.int64)
        write_bytes(folder / PCA_FILE, save({**values, "checksum": checksum}))

    def description(self) -> dict[str, Any]:
        """Type and number of components."""
        return {"type": "int8-pca", "components": len(self.basis)}

    def encode(self, patches: Tensor) -> Tensor:
        """Turn ``(B, N, D)`` into ``(B, N, r)`` int8."""
        mean, basis, scale = self._on(patches.device)
        steps = (patches.float() - mean) @ basis.T / scale
        return steps.round().clamp(-127, 127).to(torch.int8)

    def restore(self, stored: Tensor) -> Tensor:
        """Turn ``(B, N, r)`` int8 into ``(B, N, D)`` float32."""
        mean, basis, scale = self._on(stored.device)
        return (stored.float() * scale) @ basis + mean

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Turn ``(N, r)`` int8 into ``(N, D)`` float16."""
        return (stored.astype(np.float32) @ self._scaled + self.mean).astype(np.float16)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        if device not in self._tensors:
            mean, basis, scale = (torch.from_numpy(value).to(device) for value in (self.mean, self.basis, self.scale))
            self._tensors[device] = (mean, basis, scale)
        return self._tensors[device]


def _checksum(values: Sequence[np.ndarray]) -> int:
    found = 0
    for value in values:
        found = zlib.crc32(np.ascontiguousarray(value).data, found)
    return found


def load_encoding(index: CacheIndex, folder: Path) -> Encoding:
    """Make the encoding that an index describes.

    Raises:
        CacheError: The type is unknown, or its parameters are missing, damaged or of another shape.
    """
    kind = index.patches["type"]
    if kind == "float16":
        return Float16()
    if kind == "int8-pca":
        encoding = Int8PCA.load(folder)
        wanted = (index.patches["components"], index.cls_dim)
        if encoding.basis.shape != wanted:
            raise CacheError(
                f"{folder / PCA_FILE} has a basis of shape {encoding.basis.shape}, and the index says {wanted}: remove "
                "the folder and build the cache again (tools/cache_teacher.py)"
            )
        return encoding
    raise CacheError(f"{folder}: unknown patch encoding {kind!r}; this version reads float16 and int8-pca")
