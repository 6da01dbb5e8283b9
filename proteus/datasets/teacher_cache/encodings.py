"""Encodings of patch tokens on disk."""

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
    """Conversion of patch tokens to their stored form and back."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Return type and parameters, for the index."""

    @abstractmethod
    def encode(self, patches: Tensor) -> Tensor:
        """Encode tokens ``(B, N, D)``, on their device."""

    @abstractmethod
    def restore(self, stored: Tensor) -> Tensor:
        """Decode a batch to ``(B, N, D)`` float32, on its device."""

    @abstractmethod
    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Decode the tokens of one image to ``(N, D)`` float16."""


class Float16(Encoding):
    """Half precision: 11 significant bits in two bytes."""

    def description(self) -> dict[str, Any]:
        """Return the type."""
        return {"type": "float16"}

    def encode(self, patches: Tensor) -> Tensor:
        """Round ``(B, N, D)`` to half precision."""
        return patches.half()

    def restore(self, stored: Tensor) -> Tensor:
        """Convert ``(B, N, D)`` to float32."""
        return stored.float()

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Return the array unchanged."""
        return stored


class Int8PCA(Encoding):
    """First principal components of the tokens, each quantized to 255 steps.

    Args:
        mean: Mean token, ``(D,)`` float32.
        basis: Unit vectors as rows, ``(r, D)`` float32, by descending variance.
        scale: Step size of each component, ``(r,)`` float32.
    """

    def __init__(self, mean: np.ndarray, basis: np.ndarray, scale: np.ndarray) -> None:
        self.mean, self.basis, self.scale = mean, basis, scale
        self._scaled = scale[:, None] * basis
        self._tensors: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}

    @classmethod
    def fit(cls, tokens: Tensor, components: int) -> Int8PCA:
        """Fit the components to a sample of tokens.

        Args:
            tokens: Sample ``(M, D)``.
            components: Number of components. Their step sizes map the largest value of the sample to the last step.

        Raises:
            ValueError: ``components`` is out of range.
        """
        count, width = tokens.shape
        if not 0 < components <= min(width, count - 1):
            raise ValueError(
                f"components={components}: write a number from 1 to {min(width, count - 1)} (tokens have {width} "
                f"numbers, and the sample {count} tokens)"
            )
        mean = tokens.double().mean(0)
        # In chunks: a copy of the whole sample in double precision would take twice its memory.
        covariance = sum((piece.double() - mean).T @ (piece.double() - mean) for piece in tokens.split(8192))
        vectors = torch.linalg.eigh(covariance)[1].flip(1)[:, :components]
        # Fix the arbitrary signs of eigenvectors, so that results are reproducible.
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
        basis = (vectors * largest.sign()).T.float()
        pieces = tokens.split(8192)
        largest = torch.stack([((piece - mean.float()) @ basis.T).abs().amax(0) for piece in pieces]).amax(0)
        scale = (largest / 127).clamp_min(torch.finfo(torch.float32).tiny)
        return cls(*(value.cpu().numpy() for value in (mean.float(), basis, scale)))

    @classmethod
    def load(cls, folder: Path) -> Int8PCA:
        """Read the file of :meth:`save`.

        Raises:
            CacheError: The file is missing or damaged.
        """
        path = folder / PCA_FILE
        try:
            content = load_file(path)
            mean, basis, scale = values = tuple(content[name] for name in ("mean", "basis", "scale"))
            # Older caches have no checksum.
            if "checksum" in content and int(content["checksum"]) != _checksum(values):
                raise ValueError("the checksum differs")
            if basis.ndim != 2 or basis.shape != (*scale.shape, *mean.shape):
                raise ValueError(f"mean {mean.shape}, basis {basis.shape} and scale {scale.shape} do not fit")
            if any(value.dtype != np.float32 or not np.isfinite(value).all() for value in (mean, basis, scale)):
                raise ValueError("values are not finite, or not float32")
        except (OSError, KeyError, SafetensorError, ValueError, TypeError) as error:
            raise CacheError(
                f"{path} is missing or damaged ({error}), and tokens cannot be decoded without it; remove the folder "
                "and build the cache again (proteus cache)"
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
        """Return type and number of components."""
        return {"type": "int8-pca", "components": len(self.basis)}

    def encode(self, patches: Tensor) -> Tensor:
        """Encode ``(B, N, D)`` as ``(B, N, r)`` int8."""
        mean, basis, scale = self._on(patches.device)
        steps = (patches.float() - mean) @ basis.T / scale
        return steps.round().clamp(-127, 127).to(torch.int8)

    def restore(self, stored: Tensor) -> Tensor:
        """Decode ``(B, N, r)`` int8 to ``(B, N, D)`` float32."""
        mean, basis, scale = self._on(stored.device)
        return (stored.float() * scale) @ basis + mean

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Decode ``(N, r)`` int8 to ``(N, D)`` float16."""
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
    """Create the encoding that an index describes.

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
                f"{folder / PCA_FILE} has a basis of shape {encoding.basis.shape}, but the index expects {wanted}: "
                "remove the folder and build the cache again (proteus cache)"
            )
        return encoding
    raise CacheError(f"{folder}: unknown patch encoding {kind!r}; this version reads float16 and int8-pca")
