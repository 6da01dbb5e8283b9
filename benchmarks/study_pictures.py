"""Read the labelled images and photographs that ``study_metrics.py`` evaluates features on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from proteus.structures import DataError

CAMVID_CLASSES = 11
FOLDERS = (
    "photos/imagenet",
    "photos/bsds",
    "cifar10/train",
    "cifar10/test",
    *(f"camvid/{kind}/{split}" for kind in ("images", "annotations") for split in ("train", "val", "test")),
)
"""Folders of the data, in the layout of docs/study.md#data."""
_SUFFIXES = {".jpg", ".jpeg", ".png"}
_CAMVID_TILES = (2, 3)  # rows and columns of images that a frame is cut into
_CAMVID_FRAMES = {"train": 90, "test": 60}
_HELD_OUT = 4  # every fourth training image of CIFAR-10 is for validation
_MARGIN = 128 / 112  # short side over the side of the square that is cut from a photograph


@dataclass(frozen=True)
class Labelled:
    """Labelled images of one split.

    Attributes:
        images: ``(N, 3, S, S)`` uint8.
        labels: ``(N,)`` classes, or ``(N, h, w)`` classes of patches, -1 for none.
    """

    images: Tensor
    labels: np.ndarray


@dataclass(frozen=True)
class Pictures:
    """The pictures of an evaluation, in memory.

    Attributes:
        cifar: CIFAR-10 by split: ``train`` and ``test``.
        camvid: Tiles of CamVid by split.
        photographs: Unlabelled photographs, ``(N, 3, S, S)`` uint8.
    """

    cifar: Mapping[str, Labelled]
    camvid: Mapping[str, Labelled]
    photographs: Tensor

    def validation(self, camvid: Labelled) -> Pictures:
        """Replace the test splits by parts of the training data.

        Args:
            camvid: The validation split of CamVid.

        Returns:
            Every fourth training image of CIFAR-10 and ``camvid`` as test splits, and only the photographs that a
            linear map is fitted on in the test.
        """
        train = self.cifar["train"]
        held_out = np.arange(len(train.labels)) % _HELD_OUT == 0
        fit, _ = halves(len(self.photographs))
        return replace(
            self,
            cifar={"train": _subset(train, ~held_out), "test": _subset(train, held_out)},
            camvid={"train": self.camvid["train"], "test": camvid},
            photographs=self.photographs[fit],
        )


def load_pictures(data: Path, validation: bool = False, side: int = 112, patch_size: int = 14) -> Pictures:
    """Read ``cifar10``, ``camvid`` and ``photos/bsds`` of a data folder.

    Args:
        data: Folder in the layout of docs/study.md#data.
        validation: Replace the test splits by parts of the training data, on which rates and recipes are chosen; see
            :meth:`Pictures.validation`.
        side: Side of the images in pixels.
        patch_size: Side of the patches in pixels, for the labels of CamVid.
    """
    cifar = {split: _read_classes(data / "cifar10" / split, side) for split in ("train", "test")}
    camvid = {
        split: _read_camvid(data / "camvid", split, count, side, patch_size) for split, count in _CAMVID_FRAMES.items()
    }
    pictures = Pictures(cifar, camvid, load_photographs(data, side))
    if not validation:
        return pictures
    return pictures.validation(_read_camvid(data / "camvid", "val", _CAMVID_FRAMES["test"], side, patch_size))


def load_photographs(data: Path, side: int, indices: Sequence[int] | None = None) -> Tensor:
    """Read ``photos/bsds`` as squares ``(N, 3, S, S)`` uint8, all of it or the given images."""
    paths = image_files(data / "photos/bsds")
    chosen = paths if indices is None else [paths[index] for index in indices]
    return torch.stack([_square(path, side) for path in chosen])


def check_data(data: Path) -> None:
    """Check that all folders are there and hold files.

    Raises:
        DataError: A folder is missing or empty; the message names it.
    """
    for name in FOLDERS:
        folder = data / name
        if not folder.is_dir() or not any(folder.iterdir()):
            found = "is empty" if folder.is_dir() else "is missing"
            raise DataError(f"--data {data}: the folder {name} {found}; docs/study.md has the layout")


def image_files(folder: Path) -> list[Path]:
    """List the JPEG and PNG files of a folder by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)


def halves(count: int) -> tuple[Tensor, Tensor]:
    """Divide the indices of images into two halves, at random with a fixed seed."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return order[: round(count / 2)], order[round(count / 2) :]


def _square(path: Path, side: int) -> Tensor:
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    scale = round(_MARGIN * side) / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return _tensor(image.crop((left, top, left + side, top + side)))


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _read_classes(folder: Path, side: int) -> Labelled:
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    images, labels = [], []
    for label, directory in enumerate(classes):
        for path in image_files(directory):
            with Image.open(path) as image:
                images.append(_tensor(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)))
            labels.append(label)
    return Labelled(torch.stack(images), np.array(labels))


def _subset(labelled: Labelled, chosen: np.ndarray) -> Labelled:
    return Labelled(labelled.images[torch.from_numpy(chosen)], labelled.labels[chosen])


def _read_camvid(folder: Path, split: str, count: int, side: int, patch_size: int) -> Labelled:
    """Cut evenly spaced frames into tiles; a patch has the class of most of its pixels."""
    paths = image_files(folder / "images" / split)
    rows, columns = _CAMVID_TILES
    size = (columns * side, rows * side)
    images, labels = [], []
    for path in (paths[index] for index in np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)):
        with Image.open(path) as image:
            frame = _tensor(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))
        with Image.open(folder / "annotations" / split / f"{path.stem}.png") as image:
            classes = torch.from_numpy(np.array(image.resize(size, Image.Resampling.NEAREST))).long()
        for tile, mask in zip(_tiles(frame, side), _tiles(classes[None], side), strict=True):
            images.append(tile)
            labels.append([_majority(patch) for patch in _tiles(mask, patch_size)])
    grid = side // patch_size
    return Labelled(torch.stack(images), np.array(labels).reshape(-1, grid, grid))


def _tiles(image: Tensor, side: int) -> Iterable[Tensor]:
    cut = image.unfold(1, side, side).unfold(2, side, side)  # (C, rows, columns, side, side)
    return cut.permute(1, 2, 0, 3, 4).flatten(0, 1)


def _majority(classes: Tensor) -> int:
    counts = torch.bincount(classes.flatten().clamp(max=CAMVID_CLASSES), minlength=CAMVID_CLASSES + 1)
    label = int(counts.argmax())
    return label if label < CAMVID_CLASSES else -1
