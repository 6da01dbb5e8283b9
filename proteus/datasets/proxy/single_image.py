"""One large picture as a whole proxy set."""

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

from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.datasets.seeding import seeded
from proteus.datasets.transforms import CorruptImageError, LoadImage
from proteus.registry import DATASETS

# Keeps the crops' random streams apart from those of the views, whatever the seeds are.
_SALT = 0x51461E


@DATASETS.register_module()
class SingleImage(ProxySet):
    """Crops of one picture, made when they are asked for: the paper's ImageNet-Single (sections 3.5 and A.11).

    The crops are those of Asano's generator (docs/reproduction.md#proxy-sets), which writes them to disk once: a crop
    depends on ``crop_seed`` and its position alone, whatever the epoch and the run's seed, and ``pipeline`` then draws
    a new view of it each time, as of a file. As in the files, a crop is a JPEG of PIL's default quality.

    A crop's side is half the picture's shorter side, of which a part of 1/500 to all of the area is resized to
    ``int(size * sqrt(2))``, turned and sheared by up to 30 degrees (uncovered corners are black), cut to ``size`` and,
    half of the time, changed in colour. The generator never falls back to a centre crop; torchvision does so after ten
    failures in a row, which is about one crop in 10^9.

    Measured on one core: 8 ms for a crop of a picture of 5 megapixels, 44 ms for one of 75 megapixels, where most of it
    is the resizing; a photograph of 500 x 375 is read in 1 to 2 ms.

    Args:
        picture: The picture. It is decoded once, and its pixels are shared by workers that are forked.
        pipeline: As for :class:`ProxySet`.
        length: How many different crops there are. As they cost no space, any number will do.
        size: Side of a crop in pixels.
        crop_seed: Another one gives other crops.

    Raises:
        FileNotFoundError: There is no ``picture``.
        ValueError: It is no picture, or a number is not positive.
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
            raise FileNotFoundError(f"dataset.picture: there is no file {path}; put the picture there")
        self.path = str(path)
        self.length = length
        self.size = size
        self.crop_seed = crop_seed
        self._pixels: Image.Image | None = None
        try:
            side = min(self.pixels.size) // 2
        except CorruptImageError as error:
            raise ValueError(f"dataset.picture: it cannot be read: {error}") from error
        if side < 1:
            raise ValueError(f"dataset.picture: {path} is {self.pixels.size} pixels large; give a larger one")
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
        """The whole picture in RGB."""
        if self._pixels is None:
            self._pixels = LoadImage()({"img_path": self.path})["img"]
        return self._pixels

    def full_init(self) -> None:
        """Nothing is listed: BaseDataset's list stays empty."""
        self._fully_initialized = True

    def __len__(self) -> int:
        """Number of crops."""
        return self.length

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """A crop as the file that it would have been: ``img_bytes``, and ``img_path`` to call it by."""
        file = BytesIO()
        with seeded(self.crop_seed, idx, _SALT):
            self.draw().save(file, "JPEG")
        return {"img_path": f"{self.path}#{idx}", "img_bytes": file.getvalue(), "sample_idx": idx}

    def describe(self) -> str:
        """As for :class:`ProxySet`, with the picture."""
        width, height = self.pixels.size
        return f"SingleImage {self.path} ({width} x {height}): {len(self):,} crops of {self.size}, crop_seed={self.crop_seed}"

    def draw(self) -> Image.Image:
        """A crop from the random state as it is."""
        # A window into the picture, and a part of that window, without copying the window: in a picture of 75
        # megapixels it has 14.
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
        """A worker that is not forked decodes the picture itself, instead of being sent its pixels."""
        return {**self.__dict__, "_pixels": None}
