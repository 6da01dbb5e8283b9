"""Encode batches of images into the tokens that a user asks for."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from proteus.evaluation.features.image_paths import Crops
from proteus.models.distillers.data_preprocessor import as_floats
from proteus.structures import DataError

Tokens = Literal["cls", "mean", "cls+mean", "patches"]


@dataclass(frozen=True)
class NamedBackbone:
    """A backbone on its device, with what its images need.

    Attributes:
        digest: Digest of weights and architecture.
    """

    model: Any
    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    img_size: int
    digest: str


class TokenEncoder:
    """Encode batches of images; rows of unreadable images are NaN.

    Args:
        backbone: The backbone.
        tokens: Tokens to keep.
        device: Its device.
    """

    def __init__(self, backbone: NamedBackbone, tokens: Tokens, device: str) -> None:
        self.backbone, self.tokens, self.device = backbone, tokens, device
        self.mean, self.std = (
            torch.tensor(values, device=device).view(-1, 1, 1) for values in (backbone.mean, backbone.std)
        )

    @torch.inference_mode()
    def __call__(self, batch: Crops) -> np.ndarray:
        """Return rows ``(B, T, D)`` float32.

        Raises:
            DataError: Features are not finite.
        """
        images = (as_floats(batch.images.to(self.device, non_blocking=True)) - self.mean) / self.std
        on_gpu = self.device.startswith("cuda")
        with torch.autocast("cuda", torch.float16) if on_gpu else nullcontext():
            features = self.backbone.model(images)
        rows = self._chosen(features).float().cpu().numpy()
        for row, (path, error) in enumerate(zip(batch.paths, batch.errors, strict=True)):
            if error is not None:
                tqdm.write(f"error: {error}", file=sys.stderr)
                rows[row] = np.nan
            elif not np.isfinite(rows[row]).all():
                raise DataError(f"features of {self.backbone.name} are not finite (NaN or infinite), first for {path}")
        return rows

    def _chosen(self, features: Any) -> Tensor:
        if self.tokens == "patches":
            return features.patches
        cls, mean = features.cls[:, None], features.patches.mean(1, keepdim=True)
        return {"cls": cls, "mean": mean, "cls+mean": torch.cat([cls, mean], dim=-1)}[self.tokens]
