"""Mixed images and labels."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Beta

from proteus.models.distillers.data_preprocessor import DistillDataPreprocessor
from proteus.registry import MODELS
from proteus.utils.argument_checks import check_number, check_whole


@MODELS.register_module()
class MixupDataPreprocessor(DistillDataPreprocessor):
    """Mixup or CutMix of each training batch with itself in reverse order, as in DeiT.

    Teacher and student see the same mixed images, labels become shares of the classes. Each batch is mixed by one of
    the two, with equal chance where both are on. The draws come from torch's generator on the CPU, which the runner
    seeds before each step.

    Args:
        mixup: Parameter of the Beta distribution that mixup's share is drawn from; 0 switches it off, 1 is the uniform
            distribution from 0 to 1.
        cutmix: Likewise for CutMix.
        num_classes: Number of classes of the labels; None mixes images only, and drops labels. ``mixup=1.0, cutmix=0.0,
            num_classes=None`` is the mixup of "function matching" (Beyer et al., CVPR 2022, arXiv 2106.05237) and of
            LightlyTrain's distillation.
        **statistics: As for :class:`DistillDataPreprocessor`.

    Raises:
        ValueError: Both are off.
    """

    def __init__(
        self, mixup: float = 0.8, cutmix: float = 1.0, num_classes: int | None = 1000, **statistics: Any
    ) -> None:
        super().__init__(**statistics)
        check_number("mixup", mixup, 0)
        check_number("cutmix", cutmix, 0)
        if num_classes is not None:
            check_whole("num_classes", num_classes)
        if mixup <= 0 and cutmix <= 0:
            raise ValueError("MixupDataPreprocessor: mixup and cutmix are both 0: write DistillDataPreprocessor")
        self.mixup = mixup
        self.cutmix = cutmix
        self.num_classes = num_classes

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise ``inputs`` ``(B, 3, H, W)``; in training mix them, and turn ``labels`` into shares ``(B, C)``.

        Raises:
            ValueError: The batch has no labels, or cached tokens of unmixed images.
        """
        data = super().forward(data, training)
        if not training:
            return data
        if data.get("teacher_cls") is not None:
            raise ValueError(
                "MixupDataPreprocessor mixes images, but the batch has the teacher's cached tokens of unmixed images: "
                "use DistillDataPreprocessor, or set train_dataloader.dataset.cache=None"
            )
        if self.num_classes is None:
            data.pop("labels", None)
            return {**data, "inputs": self.mix(data["inputs"])[0]}
        if "labels" not in data:
            raise ValueError(
                "MixupDataPreprocessor needs labels: use dataset type='LabelledFolder', or write num_classes=None to "
                "mix images only"
            )
        images, share = self.mix(data["inputs"])
        labels = F.one_hot(data["labels"], self.num_classes).float()
        return {**data, "inputs": images, "labels": share * labels + (1 - share) * labels.flip(0)}

    def mix(self, images: Tensor) -> tuple[Tensor, float]:
        """Mix each image of ``(B, 3, H, W)`` with one other.

        Returns:
            The mixed images, and the share of each that is the image which stood there before.
        """
        use_cutmix = self.cutmix > 0 and (self.mixup <= 0 or torch.rand(()).item() < 0.5)
        alpha = float(self.cutmix if use_cutmix else self.mixup)
        share = Beta(torch.tensor(alpha), torch.tensor(alpha)).sample().item()
        if not use_cutmix:
            return share * images + (1 - share) * images.flip(0), share
        top, bottom, left, right = random_box(images.shape[-2], images.shape[-1], 1 - share)
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = images.flip(0)[..., top:bottom, left:right]
        return mixed, 1 - (bottom - top) * (right - left) / (images.shape[-2] * images.shape[-1])


def random_box(height: int, width: int, area: float) -> tuple[int, int, int, int]:
    """A box of the image's shape around a point anywhere in it, cut off at the borders.

    Args:
        height: Of the image, in pixels.
        width: Likewise.
        area: Share of the image that the box covers before it is cut off.

    Returns:
        ``top, bottom, left, right``, in pixels, the ends exclusive.
    """
    rows, columns = (int(side * math.sqrt(area)) for side in (height, width))
    y, x = (int(torch.randint(side, ()).item()) for side in (height, width))
    top, left = max(y - rows // 2, 0), max(x - columns // 2, 0)
    return top, min(y + rows // 2, height), left, min(x + columns // 2, width)
