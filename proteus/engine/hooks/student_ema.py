"""The average of the student's weights as the model that a run delivers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.hooks import EMAHook
from mmengine.runner import Runner

from proteus.registry import HOOKS


@HOOKS.register_module()
class StudentEMAHook(EMAHook):
    """Export and evaluate the exponential moving average (EMA) of the student's weights instead of the trained weights.

    ``ExportStudentHook`` then writes the average to ``student.safetensors`` and the trained weights to
    ``student_plain.safetensors``; ``OnlineEvalHook`` and the validation evaluate the average. Training is not
    affected. Checkpoints hold both, as with MMEngine's ``EMAHook``: ``iter_N.pth`` names the trained weights,
    ``iter_N.pth#ema`` the average, in ``load_from`` as well.

    DINOv3 saves and evaluates only the average of its students (https://arxiv.org/abs/2508.10104, released code). A
    decay for long runs such as 0.9998 does nothing in a few hundred iterations; here the average spans a fraction of
    the run so far, and at most ``horizon`` iterations.

    ``custom_hooks=[dict(type='StudentEMAHook')]``

    Args:
        horizon: Largest mean age of the averaged weights in iterations: the decay is at most ``1 - 1 / horizon``. The
            released distillation has 25,000.
        gamma: The mean age is at most ``1 / (gamma + 1)`` of the run so far: a tenth by default
            (:class:`~proteus.models.ForeachEMA`).
        begin_iter: First iteration that is averaged; until then the average is the trained weights.

    Raises:
        ValueError: ``horizon`` is below 2, or ``gamma`` is not above 0.
    """

    def __init__(self, horizon: int = 25000, gamma: float = 9.0, begin_iter: int = 0) -> None:
        if not horizon >= 2 or not gamma > 0:
            raise ValueError(
                f"StudentEMAHook(horizon={horizon}, gamma={gamma}): write a horizon of 2 or more, and a gamma above 0"
            )
        super().__init__(ema_type="ForeachEMA", begin_iter=begin_iter, momentum=1 / horizon, gamma=gamma)


def delivers_average(runner: Runner) -> bool:
    """Whether the run delivers the average of its weights."""
    return _hook(runner) is not None


@contextmanager
def delivered_weights(runner: Runner) -> Iterator[None]:
    """Run the block with the weights that the run delivers in its model, and restore the trained ones afterwards."""
    hook = _hook(runner)
    # Before the first update the average is a copy of weights that may have been initialised since.
    if hook is None or not hook.ema_model.steps:
        yield
        return
    hook._swap_ema_parameters()
    try:
        yield
    finally:
        hook._swap_ema_parameters()


def _hook(runner: Runner) -> StudentEMAHook | None:
    return next((hook for hook in runner.hooks if isinstance(hook, StudentEMAHook)), None)
