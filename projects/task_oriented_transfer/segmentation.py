"""A segmentation target: what a segmentor of mmseg's says of each pixel, distilled from one into another.

The core takes a segmentor as a backbone as it takes any model of mmseg's: its ``patches`` are the class scores that
the head gives, one for each place of its map. Teacher, data, schedule and checkpoints are those of every distillation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from proteus.checkpoints import CheckpointError, locate, read_state_dict
from proteus.checkpoints.export import check_written
from proteus.models import Objective, StepFeatures, Teacher
from proteus.registry import HOOKS, MODELS
from proteus.structures import Features
from proteus.utils import atomic_path

_CLASSIFIER = "decode_head.conv_seg.weight"


@MODELS.register_module()
class SegmentationTeacher(Teacher):
    """A segmentor of mmseg's that was adapted to the task, frozen.

    Args:
        backbone: Config of the segmentor, ``dict(type="mmseg.EncoderDecoder", ...)``; its
            ``init_cfg=dict(type="Pretrained", checkpoint=...)`` names the checkpoint of the adaptation.
        **teacher: As for :class:`Teacher`.

    Raises:
        CheckpointError: The checkpoint is missing, is no segmentor's, or classifies other classes.
    """

    def __init__(self, backbone: dict[str, Any], **teacher: Any) -> None:
        checkpoint = (backbone.get("init_cfg") or {}).get("checkpoint")
        if checkpoint:
            _check_classes(checkpoint, backbone["decode_head"])
        super().__init__(backbone, **teacher)


@MODELS.register_module()
class PixelObjective(Objective):
    """The student's segmentor learns the teacher's class scores of every pixel of unlabelled images.

    The coarser of the two maps is enlarged (bilinear, as mmseg enlarges scores to the image), so that both are compared
    at every place of the finer one. A view of a proxy set is a crop that fills its size, without labels: it has no
    padded and no ignored pixels, and every place counts alike.

    Args:
        student_dim: Number of the student's classes; the distiller fills it in.
        teacher_dim: Number of the teacher's classes; the distiller fills it in.
        weight: Factor of the term in the total.
        loss: Config of the loss over ``(pixels, classes)``, by default ``SoftLogitsLoss``, the Kullback-Leibler
            divergence; ``dict(type="SoftLogitsLoss", temperature=2.0)`` softens both sides.

    Raises:
        ValueError: The numbers of classes differ.
    """

    needs_equal_grids = False

    def __init__(
        self, student_dim: int, teacher_dim: int, weight: float = 1.0, loss: dict[str, Any] | None = None
    ) -> None:
        if teacher_dim and student_dim != teacher_dim:
            raise ValueError(
                f"model.student gives {student_dim} scores a pixel and model.teacher.backbone {teacher_dim}: both are "
                "segmentors of the same classes; write model.student.decode_head.num_classes="
                f"{teacher_dim}, or take the teacher that was adapted to this task"
            )
        nn.Module.__init__(self)  # the student's own head classifies: none is put upon it
        self.weight = weight
        self.loss = MODELS.build(loss or {"type": "SoftLogitsLoss"})

    def forward(self, views: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss over ``(B h w, K)``, where ``(h, w)`` is the finer grid."""
        grids = zip(views.student.grid, views.teacher.grid, strict=True)
        height, width = (max(sides) for sides in grids)
        return self.loss(_scores(views.student, (height, width)), _scores(views.teacher, (height, width)))


@HOOKS.register_module()
class ExportSegmentorHook(Hook):
    """When the distillation ends, write ``segmentor.pth`` to the work directory: the student as mmseg's checkpoint.

    It is what the fine-tuning config loads (``load_from``), and what ``tools/test.py`` tests with that config.
    """

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Write the file, whole: it appears under its name only once it is complete."""
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        state = {name: value.cpu() for name, value in model.student.guest.state_dict().items()}
        path = Path(runner.work_dir) / "segmentor.pth"
        check_written(state, path)
        with atomic_path(path) as temporary, temporary.open("wb") as opened:
            torch.save({"state_dict": state, "meta": {"iter": runner.iter}}, opened)
        runner.logger.info(f"the student, for mmseg: {path}")


def _scores(features: Features, grid: tuple[int, int]) -> Tensor:
    """Class scores ``(B N, K)`` of a segmentor at the places of ``grid``, in float32."""
    maps = features.patches.float().transpose(1, 2).unflatten(2, features.grid)
    if features.grid != grid:
        maps = F.interpolate(maps, size=grid, mode="bilinear", align_corners=False)
    return maps.flatten(2).transpose(1, 2).flatten(0, 1)


def _check_classes(checkpoint: str, head: Mapping[str, Any]) -> None:
    key = "backbone.init_cfg.checkpoint"
    try:
        state = read_state_dict(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{key}: {error}; `python tools/train.py .../teacher.py` writes it") from error
    if _CLASSIFIER not in state:
        raise CheckpointError(
            f"{key}: {locate(checkpoint)} holds no {_CLASSIFIER}: give a checkpoint of a segmentor, such as the "
            "iter_*.pth of teacher.py"
        )
    found, wanted = len(state[_CLASSIFIER]), head.get("num_classes")
    if found != wanted:
        raise CheckpointError(
            f"{key}: {locate(checkpoint)} classifies {found} classes and the config's teacher {wanted}: write "
            f"model.teacher.backbone.decode_head.num_classes={found} and the same for model.student, or give the "
            "checkpoint of a teacher that was adapted to this task"
        )
