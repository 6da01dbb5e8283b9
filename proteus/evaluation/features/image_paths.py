"""Image files without labels: from a folder, a text file or a list, as a data set that marks unreadable ones."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from tqdm import tqdm

from proteus.structures import CorruptImageError, DataError, UserError
from proteus.utils.files import describe_unread, read_lines, unread_extension, walk
from proteus.utils.images import EXTENSIONS, open_rgb

_CROP_FRACTION = 0.875  # 224 of 256 pixels, as in the released evaluation


@dataclass(frozen=True)
class ImagePaths:
    """Image files and the names that they go by.

    Attributes:
        names: As in the list; below a folder, relative to it, sorted, with ``/`` between folders.
        paths: What to open.
    """

    names: list[str]
    paths: list[str]


def find_images(data: str | Path | Iterable[str | Path], skip: Iterable[Path] = ()) -> ImagePaths:
    """List images.

    Args:
        data: A folder, which is searched with its subfolders; an image; a text file with one path per line, relative
            to the working directory; or paths.
        skip: Folders to skip.

    Raises:
        UserError: ``data`` does not exist, or has no images.
        DataError: The text file is not UTF-8 text.
    """
    if not isinstance(data, (str, Path)):
        paths = [str(path) for path in data]
        if not paths:
            raise UserError("data: the list of images is empty")
        return ImagePaths(paths, paths)
    root = Path(data).expanduser()
    if root.is_dir():
        found = walk(root, EXTENSIONS, skip)
        for line in found.skipped:
            tqdm.write(f"{root}: {line}", file=sys.stderr)
        if found.unreadable:
            tqdm.write(f"{root}: folders that cannot be read: {', '.join(found.unreadable[:5])}", file=sys.stderr)
        if not found.files:
            raise UserError(f"{root} has no images ({' '.join(EXTENSIONS)}){found.hint}")
        return ImagePaths(found.files, [f"{root}/{name}" for name in found.files])
    if not root.is_file():
        raise UserError(f"{root}: no such folder, image or text file with paths")
    if root.name.lower().endswith(EXTENSIONS):
        return ImagePaths([str(root)], [str(root)])
    if extension := unread_extension(root.name):
        raise UserError(f"{root}: {describe_unread({extension: 1})}")
    paths = [line.strip() for line in read_lines(root) if line.strip()]
    if not paths:
        raise UserError(f"{root} has no path of an image; write one per line")
    if not any(path.lower().endswith(EXTENSIONS) for path in paths):
        raise DataError(f"{root}: expected one path of an image per line, found {paths[0][:80]!r}")
    return ImagePaths(paths, paths)


class CenterCrops(Dataset[dict[str, Any]]):
    """Images resized and cropped as for evaluation; unreadable ones are zeros, and marked.

    The shorter edge becomes ``floor(img_size / 0.875)`` pixels, bicubic; the crop is in the center. This is timm's
    evaluation transform with ``crop_pct=0.875``.

    Args:
        paths: Image files.
        img_size: Side of the crop in pixels.
    """

    def __init__(self, paths: Sequence[str], img_size: int) -> None:
        self.paths = list(paths)
        self.img_size = img_size
        edge = math.floor(img_size / _CROP_FRACTION)
        self.view = v2.Compose([v2.Resize(edge, v2.InterpolationMode.BICUBIC), v2.CenterCrop(img_size)])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``image`` ``(3, S, S)`` uint8, ``path``, and ``error``: None, or why the image cannot be read."""
        path = self.paths[index]
        try:
            image: Image.Image = self.view(open_rgb(path))
        except CorruptImageError as error:
            return {"image": torch.zeros(3, self.img_size, self.img_size, dtype=torch.uint8), "error": str(error)}
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return {"image": pixels, "error": None, "path": path}


@dataclass(frozen=True)
class Crops:
    """A batch of :class:`CenterCrops`.

    Attributes:
        images: ``(B, 3, S, S)`` uint8.
        errors: One per image.
        paths: One per image.
    """

    images: Tensor
    errors: list[str | None]
    paths: list[str]


def collate_crops(samples: Sequence[dict[str, Any]]) -> Crops:
    """Stack images."""
    images = torch.stack([sample["image"] for sample in samples])
    return Crops(images, [sample["error"] for sample in samples], [sample.get("path", "") for sample in samples])
