"""Distillation of per-pixel class scores between mmseg segmentors.

The core supports a segmentor as a backbone, like any model of mmseg: its ``patches`` are the class scores of its head,
one for each position of the map. Teacher, data, schedule and checkpoints are the core's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from proteus.checkpoints import CheckpointError, locate, read_state_dict
from proteus.checkpoints.export import check_written
from proteus.models import Objective, StepFeatures, Teacher
from proteus.registry import HOOKS, MODELS
from proteus.structures import Features
from proteus.utils import atomic_path
from proteus.utils.models import unwrap_model

_CLASSIFIER = "decode_head.conv_seg.weight"


@MODELS.register_module()
class SegmentationTeacher(Teacher):
    """A frozen mmseg segmentor, adapted to the task.

    Args:
        backbone: Config of the segmentor, ``dict(type="mmseg.EncoderDecoder", ...)``; its
            ``init_cfg=dict(type="Pretrained", checkpoint=...)`` names the checkpoint of the adaptation.
        **teacher: Arguments of :class:`Teacher`.

    Raises:
        CheckpointError: The checkpoint is missing, is not of a segmentor, or has other classes.
    """

    def __init__(self, backbone: dict[str, Any], **teacher: Any) -> None:
        checkpoint = (backbone.get("init_cfg") or {}).get("checkpoint")
        if checkpoint:
            _check_classes(checkpoint, backbone["decode_head"])
        super().__init__(backbone, **teacher)


@MODELS.register_module()
class PixelObjective(Objective):
    """Match the teacher's class scores of every pixel on unlabelled images.

    The coarser of the two maps is enlarged (bilinear, as mmseg enlarges scores to the image), so that both are compared
    at every place of the finer one. A view of a proxy set is a crop that fills its size, without labels: it has no
    padded and no ignored pixels, and every place counts alike.

    Args:
        student_dim: Number of the student's classes; filled in by the distiller.
        teacher_dim: Number of the teacher's classes; filled in by the distiller.
        weight: Weight of the term in the sum.
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
                f"model.student has {student_dim} scores per pixel, model.teacher.backbone {teacher_dim}: both need "
                f"the same classes; write model.student.decode_head.num_classes={teacher_dim}, or use a teacher "
                "adapted to this task"
            )
        nn.Module.__init__(self)  # no head is added: the student's own classifies
        self.weight = weight
        self.loss = MODELS.build(loss or {"type": "SoftLogitsLoss"})

    def forward(self, step: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss over ``(B h w, K)``, where ``(h, w)`` is the finer grid."""
        grids = zip(step.student.grid, step.teacher.grid, strict=True)
        height, width = (max(sides) for sides in grids)
        return self.loss(_scores(step.student, (height, width)), _scores(step.teacher, (height, width)))


@HOOKS.register_module()
class ExportSegmentorHook(Hook):
    """Export the student at the end of training as mmseg checkpoint ``segmentor.pth`` in the work directory.

    The fine-tuning config loads it (``load_from``), and ``tools/test.py`` tests it with that config.
    """

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Write the file atomically."""
        model = unwrap_model(runner.model)
        state = {name: value.cpu() for name, value in model.student.guest.state_dict().items()}
        path = Path(runner.work_dir) / "segmentor.pth"
        check_written(state, path)
        with atomic_path(path) as temporary, temporary.open("wb") as opened:
            torch.save({"state_dict": state, "meta": {"iter": runner.iter}}, opened)
        runner.logger.info(f"student exported for mmseg: {path}")


def _scores(features: Features, grid: tuple[int, int]) -> Tensor:
    """Return class scores ``(B N, K)`` of a segmentor at the positions of ``grid``, in float32."""
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
            f"{key}: {locate(checkpoint)} has no {_CLASSIFIER}; name a checkpoint of a segmentor, such as "
            "iter_*.pth of teacher.py"
        )
    found, wanted = len(state[_CLASSIFIER]), head.get("num_classes")
    if found != wanted:
        raise CheckpointError(
            f"{key}: {locate(checkpoint)} has {found} classes, the config's teacher {wanted}: write "
            f"model.teacher.backbone.decode_head.num_classes={found} and the same for model.student, or name the "
            "checkpoint of a teacher adapted to this task"
        )
