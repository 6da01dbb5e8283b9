"""Checkpoint hook that stores the best head of a linear probe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from proteus.engine.hooks.checkpoint import AtomicCheckpointHook
from proteus.evaluation.metrics import ProbeAccuracy
from proteus.models.classifiers import LinearProbe
from proteus.registry import HOOKS
from proteus.structures import UserError
from proteus.utils.models import unwrap_model
from proteus.visualization import draw_probe_grid


@HOOKS.register_module()
class BestHeadHook(AtomicCheckpointHook):
    """Checkpoint hook for a ``LinearProbe`` that stores which head is the best.

    If a checkpoint and a validation fall on the same iteration, the checkpoint is saved after the validation, so that
    it includes the best head and the last one is a classifier. At each validation the table of all heads is written to
    ``probe_grid.md``, ``probe_grid.json`` and ``probe_grid.png`` in the work directory.

    Args:
        **checkpoint: Arguments of MMEngine's ``CheckpointHook``.

    Raises:
        ValueError: ``by_epoch`` is set.
    """

    def __init__(self, **checkpoint: Any) -> None:
        super().__init__(**checkpoint)
        if self.by_epoch:
            raise ValueError("BestHeadHook.by_epoch: a probe is trained by iterations; write by_epoch=False")
        self._due = False

    def before_train(self, runner: Runner) -> None:
        """Check that the model is a probe, then do as MMEngine does."""
        _probe(runner)
        super().before_train(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Store the best head, write the table, and save a checkpoint that is due."""
        metrics = metrics or {}
        if "probe/best_head" in metrics:
            best = _probe(runner).best_head
            best.copy_(torch.as_tensor(int(metrics["probe/best_head"])))
        if is_main_process():
            for metric in runner.val_evaluator.metrics:
                if isinstance(metric, ProbeAccuracy) and metric.grid is not None:
                    metric.grid.write(runner.work_dir, runner.iter)
                    picture = Path(runner.work_dir) / "probe_grid.png"
                    draw_probe_grid(metric.grid.columns(), metric.grid.rates, picture)
        if self._due:
            self._due = False
            # runner.iter already counts the finished iteration.
            self._save_checkpoint_with_step(runner, runner.iter, meta={"epoch": runner.epoch, "iter": runner.iter})
        super().after_val_epoch(runner, metrics)

    def before_test(self, runner: Runner) -> None:
        """Log which head is tested if no validation has chosen one."""
        probe = _probe(runner)
        if int(probe.best_head) < 0:
            runner.logger.warning(
                f"testing the first head, {probe.heads_of_grid[0].name}: no validation had chosen the best one when "
                "this checkpoint was saved"
            )

    def _save_checkpoint(self, runner: Runner) -> None:
        if _is_validated(runner):
            self._due = True
        else:
            super()._save_checkpoint(runner)


def _probe(runner: Runner) -> LinearProbe:
    model = unwrap_model(runner.model)
    if not isinstance(model, LinearProbe):
        raise UserError(
            f"default_hooks.checkpoint.type='BestHeadHook' is for model type='LinearProbe', not {type(model).__name__}"
            ": write 'AtomicCheckpointHook'"
        )
    return model


def _is_validated(runner: Runner) -> bool:
    """Return whether MMEngine's loop validates after the current iteration."""
    loop, done = runner.train_loop, runner.iter + 1
    if runner.val_loop is None or done < loop.val_begin:
        return False
    return done % loop.val_interval == 0 or done == loop.max_iters
