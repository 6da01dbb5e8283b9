"""Proxy set of crops from one large picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from proteus.compat import mark_initialized
from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.datasets.seeding import seeded
from proteus.datasets.transforms import CorruptImageError, LoadImage
from proteus.registry import DATASETS

# Separates the random streams of crops from those of views for all seeds.
_SALT = 0x51461E


@DATASETS.register_module()
class SingleImage(ProxySet):
    """Crops of one picture, made on access: the paper's ImageNet-Single (sections 3.5 and A.11).

    The crops follow Asano's generator (docs/reproduction.md#proxy-sets), which writes them to disk once: a crop depends
    only on ``crop_seed`` and its position, not on the epoch or the run's seed, and ``pipeline`` draws a new view of it
    each time. As in the generator's files, a crop is a JPEG of PIL's default quality.

    A window with half the picture's shorter side is drawn. A part of it, with 1/500 to all of its area, is resized to
    ``int(size * sqrt(2))``, rotated and sheared by up to 30 degrees (with black corners), cropped to ``size`` and, with
    probability 0.5, colour-jittered. The generator never falls back to a centre crop; torchvision does after ten failed
    draws in a row, which happens about once in 10^9 crops.

    Measured on one core: 8 ms per crop of a 5-megapixel picture, 44 ms per crop of a 75-megapixel picture, mostly for
    resizing; reading a photograph of 500 x 375 takes 1 to 2 ms.

    Args:
        picture: Path of the picture. It is decoded once, and forked workers share its pixels.
        pipeline: As for :class:`ProxySet`.
        length: Number of different crops. They take no space, so any number works.
        size: Side of a crop in pixels.
        crop_seed: Seed of the crops.

    Raises:
        FileNotFoundError: ``picture`` does not exist.
        ValueError: ``picture`` is not an image, or a number is not positive.
    """

    def __init__(
        self,
        picture: str,
        pipeline: Sequence[Any] = (),
        length: int = 1_200_000,
        size: int = 256,
        crop_seed: int = 0,
    ) -> None:
        if length < 1 or size < 1:
            raise ValueError(f"dataset.length={length}, dataset.size={size}: write positive numbers")
        path = Path(picture).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"dataset.picture: {path} does not exist; put the picture there")
        self.path = str(path)
        self.length = length
        self.size = size
        self.crop_seed = crop_seed
        self._pixels: Image.Image | None = None
        try:
            side = min(self.pixels.size) // 2
        except CorruptImageError as error:
            raise ValueError(f"dataset.picture cannot be read: {error}") from error
        if side < 1:
            raise ValueError(f"dataset.picture: {path} has {self.pixels.size} pixels; give a larger one")
        self.window = v2.RandomCrop(side)
        self.part = v2.RandomResizedCrop(
            int(size * math.sqrt(2)), (1 / 500, 1), interpolation=v2.InterpolationMode.BICUBIC
        )
        self.change = v2.Compose(
            [
                v2.RandomAffine(30, shear=30, interpolation=v2.InterpolationMode.BILINEAR, fill=0),
                v2.CenterCrop(size),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.5),
            ]
        )
        super().__init__(pipeline=pipeline)

    @property
    def pixels(self) -> Image.Image:
        """The picture in RGB."""
        if self._pixels is None:
            self._pixels = LoadImage()({"img_path": self.path})["img"]
        return self._pixels

    def full_init(self) -> None:
        """Do nothing: BaseDataset's list stays empty."""
        mark_initialized(self)

    def __len__(self) -> int:
        """Number of crops."""
        return self.length

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return a crop as ``img_bytes`` of a JPEG, and an ``img_path`` that names it in messages."""
        file = BytesIO()
        with seeded(self.crop_seed, idx, _SALT):
            self.draw().save(file, "JPEG")
        return {"img_path": f"{self.path}#{idx}", "img_bytes": file.getvalue(), "sample_idx": idx}

    def describe(self) -> str:
        """Describe the picture and its crops."""
        width, height = self.pixels.size
        crops = f"{len(self):,} crops of {self.size}, crop_seed={self.crop_seed}"
        return f"SingleImage {self.path} ({width} x {height}): {crops}"

    def draw(self) -> Image.Image:
        """Draw a crop with the current random state."""
        # Compose the coordinates of window and part instead of copying the window, which is large.
        window = self.window.make_params([self.pixels])
        side = self.window.size[0]
        part = self.part.make_params([torch.empty(1, side, side, device="meta")])
        crop = functional.resized_crop(
            self.pixels,
            window["top"] + part["top"],
            window["left"] + part["left"],
            part["height"],
            part["width"],
            self.part.size,
            self.part.interpolation,
        )
        return self.change(crop)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the pixels: a spawned worker decodes the picture itself."""
        return {**self.__dict__, "_pixels": None}
