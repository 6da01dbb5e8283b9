"""Data sets in COCO's layout: a folder of images and a JSON file with boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from proteus.registry import DATASETS
from proteus.structures import DataError
from proteus.utils.images import rgb_array, upright_size

_COMPARED_AT_START = 32


@DATASETS.register_module()
class CocoBoxes(Dataset[dict[str, Any]]):
    """Images and boxes of a COCO file; crowds and boxes without area are left out.

    Args:
        ann_file: JSON file with ``images``, ``annotations`` and ``categories``.
        data_root: Folder of the images.
        flip: Probability to mirror an image and its boxes.
        skip_empty: Leave out images without boxes, as is usual in training.

    Attributes:
        metainfo: ``classes``, names of the categories in the order of their numbers; ``category_ids``, the numbers.

    Raises:
        DataError: The file is missing, is not in COCO's layout, or has no image to use; or images are missing, or not
            of the ``width`` and ``height`` in the file (32 are compared at start, each one when it is loaded).
        CorruptImageError: An image cannot be read.
    """

    def __init__(
        self, ann_file: str | Path, data_root: str | Path, flip: float = 0.0, skip_empty: bool = False
    ) -> None:
        self.root, self.flip, self.ann_file = Path(data_root), flip, str(ann_file)
        try:
            content = json.loads(Path(ann_file).read_text(encoding="utf-8"))
            categories = sorted(content["categories"], key=lambda each: each["id"])
            self.metainfo = {
                "classes": tuple(each["name"] for each in categories),
                "category_ids": tuple(each["id"] for each in categories),
            }
            position = {number: index for index, number in enumerate(self.metainfo["category_ids"])}
            boxes: dict[int, list[tuple[float, ...]]] = {each["id"]: [] for each in content["images"]}
            for each in content["annotations"]:
                left, top, width, height = each["bbox"]
                if not each.get("iscrowd") and width > 0 and height > 0:
                    corners = (left, top, left + width, top + height)
                    boxes[each["image_id"]].append((*corners, position[each["category_id"]]))
            self.images = [
                (each["id"], each["file_name"], boxes[each["id"]], _size(each))
                for each in content["images"]
                if boxes[each["id"]] or not skip_empty
            ]
        except FileNotFoundError as error:
            raise DataError(f"ann_file={str(ann_file)!r} does not exist") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{ann_file} is not in COCO's layout ({type(error).__name__}: {error}): it needs images (id, "
                "file_name), annotations (image_id, category_id, bbox) and categories (id, name)"
            ) from error
        if not self.images:
            raise DataError(f"{ann_file} has no images{' with boxes' if skip_empty else ''}")
        missing = [name for _, name, *_ in self.images if not (self.root / name).is_file()]
        if missing:
            raise DataError(
                f"data_root={str(data_root)!r}: {len(missing):,} of the {len(self.images):,} images of {ann_file} are "
                f"missing, the first is {missing[0]}"
            )
        for index in np.unique(np.linspace(0, len(self) - 1, min(_COMPARED_AT_START, len(self))).astype(int)):
            self._check_size(int(index), upright_size(self.root / self.images[index][1]))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``inputs`` ``(3, H, W)`` uint8, ``boxes`` ``(N, 4)``, ``labels`` ``(N,)`` and ``image_id``."""
        number, name, listed, _ = self.images[index]
        image = torch.from_numpy(np.ascontiguousarray(rgb_array(self.root / name).transpose(2, 0, 1)))
        self._check_size(index, (image.shape[2], image.shape[1]))
        table = torch.tensor(listed, dtype=torch.float32).reshape(-1, 5)
        boxes, labels = table[:, :4], table[:, 4].long()
        if self.flip and torch.rand(()) < self.flip:
            image, boxes = _mirrored(image, boxes)
        return {"inputs": image, "boxes": boxes, "labels": labels, "image_id": number}

    def _check_size(self, index: int, found: tuple[int, int]) -> None:
        """Compare an image, turned upright, with the width and height that its boxes were drawn on."""
        _, name, _, listed = self.images[index]
        if listed is not None and listed != found:
            raise DataError(
                f"{self.root / name}: the upright image is {found[0]}x{found[1]} px, but {listed[0]}x{listed[1]} px in "
                f"{self.ann_file}, so that boxes would be misplaced; if they ignore the EXIF orientation, save the "
                "image without it, else correct its boxes, width and height"
            )


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    return (int(width), int(height)) if width and height else None


def _mirrored(image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    left, top, right, bottom = boxes.unbind(1)
    width = image.shape[-1]
    return image.flip(-1), torch.stack([width - right, top, width - left, bottom], dim=1)
