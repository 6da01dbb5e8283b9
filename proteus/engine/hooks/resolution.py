"""What a run does at each iteration of a schedule of image sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor

from proteus.compat import allow_recompiles, skip_batches
from proteus.config.check_resolution import mask_patches_of
from proteus.models.distillers.scheduled_sizes import check_scheduled_sizes
from proteus.registry import HOOKS
from proteus.structures import DataError, UserError
from proteus.utils.models import unwrap_model
from proteus.utils.resolution_schedule import ResolutionSchedule, Segment


@HOOKS.register_module()
class ResolutionHook(Hook):
    """Follow the schedule of a :class:`~proteus.datasets.ResolutionBatchSampler`.

    ``proteus train`` adds this hook to runs with such a sampler; with MMEngine's own ``Runner``, write it into
    ``custom_hooks``. It

    - logs each change of size,
    - scales the learning rates of a step by the schedule's factor and restores them after it, so that parameter
      schedulers and checkpoints have unscaled ones,
    - resumes without loading what was trained on,
    - lets ``torch.compile`` compile the step once for each size,
    - checks that images have the size of their iteration.

    Raises:
        UserError: At the start: ``train_dataloader.batch_sampler`` has no schedule, there are several
            optimizers, a teacher does not take a size, or masks do not fit a student at one.
        DataError: Images have another size than scheduled.
    """

    # The first of all hooks: the rate that others log is that of the step, the one that they save is not scaled.
    priority = "HIGHEST"

    def __init__(self) -> None:
        self.schedule: ResolutionSchedule | None = None
        self._segment: Segment | None = None
        self._rates: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Take the schedule of the loader."""
        sampler: Any = getattr(runner.train_dataloader, "batch_sampler", None)
        if not getattr(sampler, "schedules_resolution", False):
            raise UserError(
                "ResolutionHook follows train_dataloader.batch_sampler: write "
                "batch_sampler=dict(type='ResolutionBatchSampler', stages=...), or remove the hook"
            )
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            raise UserError("ResolutionHook is for a run with one optimizer: remove train_dataloader.batch_sampler")
        self.schedule, self._segment = sampler.schedule, None
        skip_batches(runner.train_loop, sampler.skip)
        model = unwrap_model(runner.model)
        if hasattr(model, "distillers"):
            check_scheduled_sizes(model, sampler.schedule.sizes, mask_patches_of(runner.cfg))
        count = len(getattr(model, "distillers", ())) or 1
        allow_recompiles(count * len({segment.shape for segment in sampler.schedule.segments}))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Check the size of the batch, and scale the learning rates."""
        assert self.schedule is not None
        segment = self.schedule.at(runner.iter)
        _check_size(data_batch, segment)
        if segment != self._segment:
            self._segment = segment
            rate = "" if segment.lr_factor == 1 else f", learning rate x {segment.lr_factor:.4g}"
            runner.logger.info(
                f"from iteration {runner.iter + 1:,}: {segment.batch_size} images of {_by(segment.size)} px per "
                f"process{rate}"
            )
        if segment.lr_factor != 1:
            groups = runner.optim_wrapper.param_groups
            self._rates = [group["lr"] for group in groups]
            for group in groups:
                group["lr"] = group["lr"] * segment.lr_factor

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Restore the learning rates."""
        for group, rate in zip(runner.optim_wrapper.param_groups, self._rates, strict=False):
            group["lr"] = rate
        self._rates = []


def _check_size(batch: Any, segment: Segment) -> None:
    images = batch.get("inputs") if isinstance(batch, Mapping) else None
    if isinstance(images, Tensor) and tuple(images.shape[-2:]) != segment.size:
        found = (images.shape[-2], images.shape[-1])
        raise DataError(
            f"train_dataloader.dataset: images of {_by(found)} px where train_dataloader.batch_sampler asks for "
            f"{_by(segment.size)}: end the pipeline's resizing with LoadRandomResizedCrop or RandomResizedCrop, or "
            "call proteus.datasets.wanted_size in a transform"
        )


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
