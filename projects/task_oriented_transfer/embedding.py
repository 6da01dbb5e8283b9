"""Features of whole images and of crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from proteus.datasets import CenterCrop, LoadImage, ProxySet, ResizeEdge
from proteus.models.backbones import BackboneSpec
from proteus.models.distillers.data_preprocessor import as_floats
from proteus.structures import DataError


class Item(NamedTuple):
    """A whole image, or a crop of one.

    Attributes:
        name: Path of the image, relative to its folder.
        box: Left, top, right and bottom in pixels of the image; None for the whole image.
    """

    name: str
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Embedded:
    """Items and their features.

    Attributes:
        root: Folder of the images.
        items: The embedded items.
        features: ``(N, D)``, cls tokens.
    """

    root: Path
    items: list[Item]
    features: NDArray[np.float32]


def crop_boxes(width: int, height: int, scale: float) -> list[tuple[int, int, int, int]]:
    """Return squares that cover an image, with neighbours overlapping by half.

    Args:
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        scale: A square's side as a share of the shorter side, above 0 and at most 1.

    Returns:
        Left, top, right and bottom of each square, row by row.

    Raises:
        ValueError: ``scale`` is out of range.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"crop scale {scale}: write a share of the shorter side, above 0 and at most 1")
    side = max(1, round(scale * min(width, height)))
    return [(left, top, left + side, top + side) for top in _starts(height, side) for left in _starts(width, side)]


def embed(
    spec: BackboneSpec,
    images: ProxySet,
    img_size: int = 224,
    crops: Sequence[float] = (),
    batch_size: int = 64,
    num_workers: int = 0,
    device: str = "cpu",
) -> Embedded:
    """Return the cls tokens of a set's images.

    A whole image is resized until its shorter side has ``img_size`` pixels and cropped at its centre; a crop is
    resized to ``img_size``.

    Args:
        spec: The backbone.
        images: A set of image files; its pipeline is not used.
        img_size: Side of the images in pixels.
        crops: Sides of crops as shares of the shorter side, for instance ``(0.5,)``; see :func:`crop_boxes`.
        batch_size: Images per batch, each with its crops.
        num_workers: Data loading processes.
        device: Device of the backbone.

    Raises:
        CorruptImageError: An image cannot be read; images are never skipped.
        DataError: Features are not finite; the message names the image.
    """
    root = Path(images.data_root).expanduser()
    dataset = _Views(root, names_of(images), img_size, tuple(crops))
    loader = DataLoader(dataset, batch_size, num_workers=num_workers, collate_fn=_joined)
    model = spec.build().to(device)
    mean, std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (spec.mean, spec.std))
    items: list[Item] = []
    features: list[NDArray[np.float32]] = []
    for found, pixels in tqdm(loader, desc=f"embed {root}", mininterval=10.0):
        for start in range(0, len(pixels), batch_size):
            views = (as_floats(pixels[start : start + batch_size].to(device)) - mean) / std
            with torch.inference_mode():
                features.append(model(views).cls.float().cpu().numpy())
        items += found
    table = np.concatenate(features)
    wrong = np.flatnonzero(~np.isfinite(table).all(1))
    if len(wrong):
        raise DataError(f"{spec.name}: features of {items[wrong[0]].name} in {root} are not finite")
    return Embedded(root, items, table)


def names_of(images: ProxySet) -> list[str]:
    """Return the paths of a set's images, relative to its folder, in order."""
    prefix = len(str(Path(images.data_root).expanduser())) + 1
    return [images.get_data_info(index)["img_path"][prefix:] for index in range(len(images))]


def read_item(root: Path, item: Item) -> Image.Image:
    """Read an image or its crop.

    Raises:
        CorruptImageError: The image cannot be read.
    """
    image: Image.Image = LoadImage()({"img_path": str(root / item.name)})["img"]
    return image if item.box is None else image.crop(item.box)


class _Views(Dataset[Any]):
    """Yields each image with its crops, uint8 ``(1 + C, 3, S, S)``."""

    def __init__(self, root: Path, names: list[str], size: int, crops: tuple[float, ...]) -> None:
        self.root, self.names, self.size, self.crops = root, names, size, crops
        self.fit = (ResizeEdge(scale=size, interpolation="bicubic"), CenterCrop(crop_size=size))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[list[Item], Tensor]:
        name = self.names[index]
        image = read_item(self.root, Item(name))
        whole = {"img": image}
        for step in self.fit:
            whole = step(whole)
        boxes = [box for scale in self.crops for box in crop_boxes(*image.size, scale)]
        square = (self.size, self.size)
        views = [whole["img"], *(image.resize(square, Image.Resampling.BICUBIC, box=box) for box in boxes)]
        pixels = torch.from_numpy(np.stack([np.asarray(view) for view in views])).permute(0, 3, 1, 2)
        return [Item(name), *(Item(name, box) for box in boxes)], pixels


def _joined(samples: list[tuple[list[Item], Tensor]]) -> tuple[list[Item], Tensor]:
    return [item for items, _ in samples for item in items], torch.cat([views for _, views in samples])


def _starts(length: int, side: int) -> list[int]:
    count = 1 if length == side else 1 + -(-(length - side) // max(1, side // 2))
    return [round(step * (length - side) / max(1, count - 1)) for step in range(count)]
