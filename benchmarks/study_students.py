"""Evaluate the students of ``study.py`` on the pictures of its data, with the teacher as reference."""

from __future__ import annotations

from functools import cache, cached_property
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
from proteus.structures import Features

Split = Literal["validation", "test"]
Pool = Literal["cls", "mean"]


def make_encoder(model: Any, mean: Any, std: Any, cls: Pool = "cls") -> Encoder:
    """Return an encoder of images in [0, 1].

    Args:
        model: The backbone.
        mean: Channel means for its normalisation.
        std: Channel standard deviations, likewise.
        cls: What stands for the image: its cls token, or the mean of its patch tokens.
    """
    model = model.eval()
    centre, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))

    def encode(images: Tensor) -> Features:
        found: Features = model((images - centre) / scale)
        return found if cls == "cls" else Features(found.patches.mean(1), found.patches, found.grid)

    return encode


class Evaluator:
    """Evaluates students; pictures and the teacher's features are computed once.

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
        self.teacher_features = cache(self._teacher_features)

    @cached_property
    def teacher(self) -> Encoder:
        """The teacher."""
        return self.teacher_at(self.side)

    def teacher_at(self, side: int) -> Encoder:
        """Return the teacher for images of another side in pixels."""
        backbone = build_backbone({**self.cfg.model.teacher.backbone, "img_size": side})
        return make_encoder(backbone, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)

    def student_at(self, weights: Path, cls: Pool, side: int) -> Encoder:
        """Return a student for images of a side in pixels, from its exported weights."""
        spec = locate_backbone(str(weights), None, side)
        return make_encoder(spec.build(), spec.mean, spec.std, cls)

    def evaluate_teacher(self, split: Split) -> dict[str, float]:
        """Evaluate the teacher."""
        return evaluate_features(self.teacher, self.pictures(split))

    def evaluate_student(self, weights: Path, cls: Pool, split: Split) -> dict[str, float]:
        """Evaluate a student from its exported weights."""
        return self.evaluate(self.student_at(weights, cls, self.side), split)

    def evaluate(self, encode: Encoder, split: Split) -> dict[str, float]:
        """Evaluate an encoder of images of the student's size."""
        return evaluate_features(encode, self.pictures(split), self.teacher_features(split))

    def to_teacher(self, weights: Path, cls: Pool) -> LinearMap:
        """Fit the linear map from a student's patch tokens to the teacher's, on half of the photographs."""
        fit, _ = halves(len(self.pictures("test").photographs))
        student = encode_all(self.student_at(weights, cls, self.side), self.pictures("test").photographs[fit])
        return LinearMap.fit(student.patches, self.teacher_features("test").patches[fit])

    def _pictures(self, split: Split) -> Pictures:
        return load_pictures(self.data, split == "validation", self.side, self.patch_size)

    def _teacher_features(self, split: Split) -> Features:
        return encode_all(self.teacher, self.pictures(split).photographs)
