"""The released data path, which ``data_path.py`` compares with (docs/reproduction.md#distillation-data).

torchvision's ``ImageFolder`` opens a file with PIL; timm's ``create_transform`` does the rest, float tensors leave the
worker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import Dataset

# timm's steps by the names of the stage table.
STAGES = {
    "RandomResizedCropAndInterpolation": "crop, resize",
    "RandomHorizontalFlip": "flip",
    "TimmRandAugment": "randaugment",
    "MaybeToTensor": "to tensor",
    "Normalize": "normalise",
    "RandomErasing": "erase",
}


class ReleasedData(Dataset[Tensor]):
    """Augmented, normalised views of image files, ``(3, 224, 224)`` float.

    Args:
        paths: The files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.steps: list[tuple[str, Callable[[Any], Any]]] = [("decode", self.load)]
        chosen = create_transform(
            224,
            is_training=True,
            auto_augment="rand-m9-mstd0.5-inc1",
            interpolation="bicubic",
            re_prob=0.25,
            re_mode="pixel",
            re_count=1,
        )
        self.steps += [(STAGES[type(step).__name__], step) for step in chosen.transforms]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image: Any = self.paths[index % len(self.paths)]
        for _, step in self.steps:
            image = step(image)
        return image  # type: ignore[no-any-return]

    @staticmethod
    def load(path: Path) -> Image.Image:
        """Open a file as torchvision's ``ImageFolder`` does."""
        with path.open("rb") as file:
            return Image.open(file).convert("RGB")


def released_collate(samples: Sequence[Tensor]) -> Tensor:
    """Stack the images of a batch."""
    return torch.stack(list(samples))
