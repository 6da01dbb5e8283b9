"""A curriculum over the teacher's blocks."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from proteus.compat import is_resuming
from proteus.evaluation.online.compare import eval_mode
from proteus.models.objectives import StepFeatures
from proteus.registry import HOOKS
from proteus.structures import UserError
from proteus.utils.models import unwrap_model


@HOOKS.register_module()
class TeacherDepthHook(Hook):
    """Learn from the teacher's early blocks first, and from a later one when the student resembles the current one.

    All objectives compare with the features after the current block, passed through the teacher's final norm; the
    teacher runs no further block. The first is the one that the student resembles most. The next one follows when the
    linear CKA between patches of the two (the student's after its head, if an objective has one for clean patches)
    reaches ``threshold``, or after ``max_share`` of the run. Heads stay as they are. Validation and online evaluation
    compare with the whole teacher. The state is saved in checkpoints. With several students their mean CKA counts.

    Source: LEAP, https://arxiv.org/abs/2606.19483; defaults are those of its released ImageNet-1K run (DINOv2 ViT-g to
    ViT-S). There CKA is that of each whole batch.

    ``custom_hooks=[dict(type='TeacherDepthHook')]``

    Args:
        threshold: CKA at which the next block follows, above 0 and at most 1.
        max_share: Longest time on one block, as a fraction of the run.
        interval: Iterations from one computation of CKA to the next.
        images: Images of the batch of each process in a computation.

    Raises:
        ValueError: A number is out of range.
        UserError: At the start: the teacher has no blocks to stop at, is compiled, sharded or cached, or classifies.
    """

    def __init__(self, threshold: float = 0.8, max_share: float = 0.05, interval: int = 10, images: int = 64) -> None:
        if not 0 < threshold <= 1 or not 0 < max_share <= 1 or interval < 1 or images < 2:
            raise ValueError(
                f"TeacherDepthHook(threshold={threshold}, max_share={max_share}, interval={interval}, images={images}):"
                " write threshold and max_share above 0 and up to 1, interval of 1 or more, and images of 2 or more"
            )
        self.threshold, self.max_share = threshold, max_share
        self.interval, self.images = interval, images
        self.block = self.spent = 0

    def before_train(self, runner: Runner) -> None:
        """Check that the teacher can stop early."""
        model = unwrap_model(runner.model)
        reason = _unsupported(model, runner.train_dataloader.dataset)
        if reason:
            raise UserError(f"TeacherDepthHook: {reason}")
        self.limit = math.ceil(self.max_share * runner.max_iters)
        self.depth = model.teacher.backbone.depth

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Let the teacher stop after the current block; choose the first one."""
        teacher = unwrap_model(runner.model).teacher
        if not self.block:
            scores = [self._cka(runner, data_batch, block) for block in range(1, self.depth + 1)]
            self.block = max(range(1, self.depth + 1), key=lambda block: scores[block - 1])
            shown = ", ".join(f"{score:.2f}" for score in scores)
            runner.logger.info(f"teacher depth: start with block {self.block} of {self.depth} (CKA by block: {shown})")
        teacher.last_block = self.block

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Go on to the next block if it is time, and let evaluations run the whole teacher."""
        unwrap_model(runner.model).teacher.last_block = None
        if self.block == self.depth:
            return
        self.spent += 1
        if self.spent >= self.limit:
            self._next(runner, f"after {self.spent} iterations")
        elif self.every_n_train_iters(runner, self.interval):
            score = self._cka(runner, data_batch, self.block)
            if score >= self.threshold:
                self._next(runner, f"at CKA {score:.3f}")

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Store the block and the iterations that were spent on it."""
        checkpoint["teacher_depth"] = [self.block, self.spent]

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Read them.

        Raises:
            UserError: They are not those of a run.
        """
        state = checkpoint.get("teacher_depth")
        if not is_resuming(runner) or state is None:
            return
        if not isinstance(state, list) or len(state) != 2 or any(type(one) is not int or one < 0 for one in state):
            raise UserError(f"TeacherDepthHook: the checkpoint's teacher_depth is {state!r}, not a block; start again")
        self.block, self.spent = state

    def _next(self, runner: Runner, reason: str) -> None:
        self.block, self.spent = self.block + 1, 0
        runner.logger.info(f"teacher depth: block {self.block} of {self.depth} {reason}")

    def _cka(self, runner: Runner, data_batch: Any, block: int) -> float:
        """CKA between the patches of student and teacher block, the mean over students and processes."""
        model = unwrap_model(runner.model)
        teacher = model.teacher
        with eval_mode(model):
            data: dict[str, Any] = model.data_preprocessor({"inputs": data_batch["inputs"][: self.images]}, False)
            teacher.last_block = block
            target = teacher(data["inputs"])
            teacher.last_block = None
            scores = []
            for distiller in model.distillers.values():
                step = distiller.grids.on_one_grid(StepFeatures(target, distiller.student(data["inputs"])))
                patches = distiller.predict_tokens(step.student).get("patches", step.student.patches)
                scores.append(linear_cka(patches.flatten(0, 1), step.teacher.patches.flatten(0, 1)))
            score = torch.stack(scores).mean()
            all_reduce(score, op="mean")
        return float(score)


def linear_cka(first: Tensor, second: Tensor) -> Tensor:
    """Linear centred kernel alignment of two sets of features of the same ``N`` inputs.

    ``|X^T Y|^2 / (|X^T X| |Y^T Y|)`` of centred features, with Frobenius norms (Kornblith et al., ICML 2019,
    https://arxiv.org/abs/1905.00414).

    Args:
        first: ``(N, D1)``.
        second: ``(N, D2)``.

    Returns:
        A scalar from 0 to 1, in float32; 1 for features that are equal up to rotation and scale.
    """
    x, y = (tokens.float() - tokens.float().mean(0) for tokens in (first, second))
    norms = torch.linalg.norm(x.T @ x) * torch.linalg.norm(y.T @ y)
    return (x.T @ y).square().sum() / norms.clamp(min=1e-12)


def _unsupported(model: Any, dataset: Any) -> str:
    """Return why the teacher of a run cannot stop early; empty if it can."""
    if "" not in getattr(model, "teachers_by_name", {"": None}):
        return "the hook stops model.teacher, and the run has model.teachers; remove the hook"
    teacher = getattr(model, "teacher", None)
    if teacher is None or not hasattr(model, "distillers"):
        return "the model is not a Distiller; remove the hook"
    backbone = getattr(teacher, "backbone", None)
    if not hasattr(backbone, "levels") or not hasattr(backbone, "depth"):
        return f"the teacher ({type(backbone).__name__}) gives its last features only; a ViT is needed"
    if teacher.compiled or teacher.sharded:
        what = "compile" if teacher.compiled else "shard"
        return f"model.teacher.{what} cannot change the number of blocks; write model.teacher.{what}=False"
    if getattr(dataset, "cache", None) is not None:
        return "the teacher's cache holds its last block only; write train_dataloader.dataset.cache=None"
    for distiller in model.distillers.values():
        if distiller.standardization is not None:
            return f"{distiller.key}.standardization has the statistics of the last block only; remove one of the two"
        if distiller.needs_logits:
            return f"{distiller.key}.objectives read the teacher's logits, which need its last block"
        if distiller.needs_hidden_states:
            return f"{distiller.key}.objectives read the hidden states of all blocks of the teacher"
    return ""
