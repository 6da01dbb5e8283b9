"""Our batches, for mmpretrain's classifiers."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseDataPreprocessor
from timm.data import IMAGENET_DEFAULT_MEAN as MEAN
from timm.data import IMAGENET_DEFAULT_STD as STD

from proteus.models.backbones.openmmlab import import_toolbox
from proteus.models.distillers import DistillDataPreprocessor, MixupDataPreprocessor
from proteus.registry import MODELS
from proteus.structures import DataError
from proteus.utils.argument_checks import check_number, check_whole


@MODELS.register_module()
class MMPretrainDataPreprocessor(BaseDataPreprocessor):
    """Normalise a labelled batch, mix it in training, and hand it over as mmpretrain's ``DataSample``.

    mmpretrain's own preprocessor draws its mixing from NumPy's global state, which a resumed run does not have; here
    the draws are those of :class:`MixupDataPreprocessor`, a function of seed, iteration and rank.

    Args:
        num_classes: Number of classes, as the head has it.
        mixup: As for :class:`MixupDataPreprocessor`; 0 switches it off.
        cutmix: Likewise.
        mean: Channel means for images in [0, 1].
        std: Channel standard deviations, likewise.
        batch_augments: mmpretrain's mixing, which its classifier hands over from ``train_cfg``; None.

    Raises:
        ImportError: mmpretrain is not installed; the message says what to install.
        ValueError: ``batch_augments`` is set.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        batch_augments: None = None,
    ) -> None:
        super().__init__(non_blocking=True)
        if batch_augments is not None:
            raise ValueError(
                "model.train_cfg.augments mixes batches out of step with a resumed run: remove it and write "
                "model.data_preprocessor.mixup and cutmix"
            )
        check_whole("num_classes", num_classes)
        check_number("mixup", mixup, 0)
        check_number("cutmix", cutmix, 0)
        import_toolbox("mmpretrain")
        self._sample: Any = importlib.import_module("mmpretrain.structures").DataSample
        self.num_classes = num_classes
        self.batch: DistillDataPreprocessor = (
            MixupDataPreprocessor(mixup, cutmix, num_classes, mean=mean, std=std)
            if mixup > 0 or cutmix > 0
            else DistillDataPreprocessor(mean, std)
        )

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare ``inputs`` ``(B, 3, H, W)`` and ``labels`` ``(B,)``.

        Returns:
            ``inputs`` ``(B, 3, H, W)`` and ``data_samples``, one an image: with ``gt_score`` ``(C,)``, shares of the
            classes, where the batch was mixed, else with ``gt_label`` ``(1,)``.

        Raises:
            ValueError: The images have no labels.
        """
        if "labels" not in data:
            raise DataError("MMPretrainDataPreprocessor needs labels: use dataset type='LabelledFolder'")
        batch = self.batch(data, training)
        labels = batch["labels"]
        if labels.ndim == 2:
            samples = [self._sample().set_gt_score(shares) for shares in labels]
        else:
            samples = [self._sample().set_gt_label(label) for label in labels.split(1)]
        return {"inputs": batch["inputs"], "data_samples": samples}
