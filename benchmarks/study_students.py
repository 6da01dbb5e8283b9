"""Evaluate the students of ``study.py`` on the pictures of its data, with the teacher as reference."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.registry import init_default_scope
from study_contenders import COMMON
from study_metrics import Encoder, LinearMap, encode_all, evaluate_features
from study_pictures import Pictures, halves, load_pictures
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from proteus.apis import load_config
from proteus.models.backbones import build_backbone, locate_backbone
from proteus.models.distillers.grid import resample
from proteus.structures import Features

Split = Literal["validation", "test"]
Pool = Literal["cls", "mean"]


def make_encoder(model: Any, mean: Any, std: Any, cls: Pool = "cls", patch_size: int | None = None) -> Encoder:
    """Return an encoder of images in [0, 1].

    Args:
        model: The backbone.
        mean: Channel means for its normalisation.
        std: Channel standard deviations, likewise.
        cls: What stands for the image: its cls token, or the mean of its patch tokens.
        patch_size: Side in pixels of the patches that tokens on another grid are interpolated to; None keeps them.
    """
    model = model.eval()
    centre, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))

    def encode(images: Tensor) -> Features:
        found: Features = model((images - centre) / scale)
        if patch_size:
            found = resample(found, (images.shape[-2] // patch_size, images.shape[-1] // patch_size), "antialias")
        return found if cls == "cls" else Features(found.patches.mean(1), found.patches, found.grid)

    return encode


class Evaluator:
    """Evaluates students; pictures and the teacher's features are computed once for each size.

    Args:
        data: Folder of the data.
        config: Config with the teacher and the size of the images.
    """

    def __init__(self, data: Path, config: Path = COMMON) -> None:
        self.data = data
        self.cfg = load_config(config)
        init_default_scope("proteus")
        self.side: int = self.cfg.model.student.img_size
        self.patch_size: int = self.cfg.model.student.patch_size
        self.pictures = cache(self._pictures)
        self.teacher_at = cache(self._teacher_at)
        self.teacher_features = cache(self._teacher_features)

    def student_at(self, weights: str | Path, cls: Pool, side: int, config: Mapping[str, Any] | None = None) -> Encoder:
        """Return a student for images of a side in pixels, with patch tokens on the teacher's grid.

        Args:
            weights: Its exported weights, or a training checkpoint.
            cls: What stands for the image.
            side: Side of the images.
            config: Config of the student, for a checkpoint, which does not describe it.
        """
        if config is None:
            spec = locate_backbone(str(weights), None, side)
            return make_encoder(spec.build(), spec.mean, spec.std, cls, self.patch_size)
        student = build_backbone({**config, "img_size": side, "checkpoint": str(weights)})
        return make_encoder(student, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, cls, self.patch_size)

    def evaluate_teacher(self, split: Split) -> dict[str, float]:
        """Evaluate the teacher."""
        return evaluate_features(self.teacher_at(self.side), self.pictures(split, self.side))

    def evaluate_student(
        self,
        weights: str | Path,
        cls: Pool,
        split: Split,
        side: int | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> dict[str, float]:
        """Evaluate a student of :meth:`student_at` on images of a side, by default that of the evaluator's config."""
        side = side or self.side
        encode = self.student_at(weights, cls, side, config)
        return evaluate_features(encode, self.pictures(split, side), self.teacher_features(split, side))

    def to_teacher(self, weights: Path, cls: Pool) -> LinearMap:
        """Fit the linear map from a student's patch tokens to the teacher's, on half of the photographs."""
        photographs = self.pictures("test", self.side).photographs
        fit, _ = halves(len(photographs))
        student = encode_all(self.student_at(weights, cls, self.side), photographs[fit])
        return LinearMap.fit(student.patches, self.teacher_features("test", self.side).patches[fit])

    def _pictures(self, split: Split, side: int) -> Pictures:
        return load_pictures(self.data, split == "validation", side, self.patch_size)

    def _teacher_at(self, side: int) -> Encoder:
        backbone = build_backbone({**self.cfg.model.teacher.backbone, "img_size": side})
        return make_encoder(backbone, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)

    def _teacher_features(self, split: Split, side: int) -> Features:
        return encode_all(self.teacher_at(side), self.pictures(split, side).photographs)
