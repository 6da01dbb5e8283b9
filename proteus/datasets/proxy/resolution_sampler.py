"""Batches with a size and a number of images that change during a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, ClassVar, Literal

from torch.utils.data import Sampler

from proteus.datasets.seeding import SampleKey
from proteus.registry import DATA_SAMPLERS
from proteus.utils.resolution_schedule import ResolutionSchedule


@DATA_SAMPLERS.register_module()
class ResolutionBatchSampler(Sampler[list[SampleKey]]):
    """Schedule of image sizes over a run, as ``train_dataloader.batch_sampler``.

    Batch ``i`` has the size of iteration ``i``, which its :class:`~proteus.datasets.SampleKey` objects carry to the
    workers: the crop of the pipeline makes images of that size. Neither persistent workers nor batches that they have
    prefetched, nor resuming, can therefore mix up sizes. ``LoadRandomResizedCrop`` decodes no more pixels than the size
    needs. Masks, erased boxes and shifts of RandAugment follow the size of the image.

    :class:`~proteus.engine.ResolutionHook`, which training adds, scales the learning rate. See docs/resolution.md.

    Args:
        sampler: Sampler of sample keys (``ProxySampler``); set by the runner.
        batch_size: Images per process; set by the runner from ``train_dataloader.batch_size``.
        stages: One dict per stage, in order. ``size`` is a side in pixels or ``(height, width)``. ``end`` is the
            iteration after its last one, or a fraction of the run; the last stage has none. ``batch_size`` are the
            images per process, by default the loader's. With ``grow_from``, the size grows from that to ``size`` during
            the stage, one patch after the other, each size for equally long.
        max_iters: Iterations of the run. Training sets it from ``train_cfg``.
        patch_size: Side of a patch in pixels. All sides are multiples of it.
        interval: Least number of iterations between two sizes of a growing stage: 1 for any, those of an epoch to
            change only between epochs.
        constant_patches: Increase the batches of smaller images, so that all have about as many patches as
            ``batch_size`` images of the largest size. Stages with ``batch_size`` keep that.
        scale_lr: Scale the learning rate by the images of a batch relative to ``train_dataloader.batch_size``:
            ``linear``, ``sqrt`` for its root, or None.

    Attributes:
        schedule: Size, number of images and factor of the learning rate of each iteration.
        schedules_resolution: Marks samplers with a ``schedule``; read by the checks of configs.

    Raises:
        ValueError: A stage is invalid, or the sampler does not give sample keys.
    """

    schedules_resolution: ClassVar[bool] = True

    def __init__(
        self,
        sampler: Any,
        batch_size: int,
        stages: Sequence[Mapping[str, Any]],
        max_iters: int | None = None,
        patch_size: int = 14,
        interval: int = 1,
        constant_patches: bool = False,
        scale_lr: Literal["linear", "sqrt"] | None = None,
    ) -> None:
        if not getattr(sampler, "gives_sample_keys", False):
            raise ValueError(
                f"train_dataloader.batch_sampler: {type(sampler).__name__} gives indices, which cannot carry a size: "
                "write train_dataloader.sampler=dict(type='ProxySampler')"
            )
        self.sampler = sampler
        self.batch_size = batch_size
        self.schedule = ResolutionSchedule(
            stages, batch_size, max_iters, patch_size, interval, constant_patches, scale_lr
        )
        self.start = 0

    def __len__(self) -> int:
        """Number of batches of ``batch_size`` images in one epoch on this rank, rounded up."""
        return -(-len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        keys = iter(self.sampler)
        for iteration in count(self.start):
            segment = self.schedule.at(iteration)
            yield [next(keys).resized(segment.size) for _ in range(segment.batch_size)]

    def skip(self, iterations: int) -> None:
        """Start at an iteration, without loading what comes before."""
        self.start = iterations
        self.sampler.skip(self.schedule.images_before(iterations))
