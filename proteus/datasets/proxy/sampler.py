"""In which order a proxy set is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from itertools import count

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from proteus.datasets.proxy.seeded_set import check_map_style, holds_proxy_set
from proteus.datasets.seeding import SampleKey
from proteus.registry import DATA_SAMPLERS
from proteus.utils.argument_checks import check_whole


@DATA_SAMPLERS.register_module()
class ProxySampler(Sampler[SampleKey]):
    """An endless, resumable stream of shuffled epochs, dealt to the ranks in turn.

    Position ``p`` of the stream is a function of ``p``, the seed and the size of the set alone. Rank ``r`` of ``W``
    takes positions ``r, r + W, ...``, so that ``W`` ranks with a batch of ``B / W`` see together what one process
    with a batch of ``B`` sees, and resuming costs nothing.

    Args:
        dataset: The proxy set; the runner fills it in.
        seed: The run's seed; the runner fills it in.
        shuffle: Draw each epoch in a new random order.
        repeats: StepFeatures of each image within one epoch. As in DeiT's repeated augmentation, an epoch then draws
            ``n // 256 * 256`` views, of the first ``1 / repeats`` of the shuffled images, and the views of an image
            fall on different ranks (docs/reproduction.md#distillation-data).
        group_views: Deal the images instead of the views: all views of an image fall on one rank, one after another, so
            that a worker can decode it once (``LoadRandomResizedCrop(cache_last=True)``). This is not as released: with
            several ranks, a rank's batch shows each of its images ``repeats`` times instead of mostly once, and the
            masked half of it (``distill_collate``) has all views of an image, or none. An epoch leaves out the last
            image where it would not be shown ``repeats`` times. The ranks together see in each step what one process
            sees where a rank's batch is a multiple of ``repeats``, and else all but the images at its ends.

    Raises:
        ValueError: The set is empty or cannot be indexed, ``repeats`` is below 1, or there is nothing to keep
            ``group_views``.
    """

    def __init__(
        self,
        dataset: Sized,
        seed: int | None = None,
        shuffle: bool = True,
        repeats: int = 1,
        group_views: bool = False,
    ) -> None:
        check_whole("sampler.repeats", repeats)
        if group_views and repeats == 1:
            raise ValueError(
                "sampler.group_views=True: with repeats=1 an image has one view; write repeats=3, or remove it"
            )
        check_map_style(dataset)
        if holds_proxy_set(dataset):
            raise ValueError(
                f"train_dataloader.dataset: {type(dataset).__name__} hides from the proxy set within it which view is "
                "wanted: write dict(type='proteus.SeededSet', dataset=...) round it"
            )
        if len(dataset) == 0:
            raise ValueError("the proxy set is empty")
        self.size = len(dataset)
        self.epoch_length = self.size if repeats == 1 else max(self.size // 256 * 256, min(self.size, 256))
        # So many positions in a row go to one rank.
        self.dealt = repeats if group_views else 1
        self.epoch_length = max(self.epoch_length // self.dealt, 1) * self.dealt
        self.seed = sync_random_seed() if seed is None else seed
        self.shuffle = shuffle
        self.repeats = repeats
        self.rank, self.world = get_dist_info()
        self.start = 0

    def __len__(self) -> int:
        """Samples of one epoch on this rank, rounded up."""
        return -(-self.epoch_length // self.world)

    def __iter__(self) -> Iterator[SampleKey]:
        epoch, order = -1, torch.empty(0)
        for sample in count(self.start):
            turn, within = divmod(sample, self.dealt)
            position = (turn * self.world + self.rank) * self.dealt + within
            if position // self.epoch_length != epoch:
                epoch = position // self.epoch_length
                order = self._order(epoch)
            drawn, view = divmod(position % self.epoch_length, self.repeats)
            yield SampleKey(self.seed, epoch, int(order[drawn]), view)

    def skip(self, num_samples: int) -> None:
        """Start at the ``num_samples``-th sample of this rank: what MMEngine's loop calls when it resumes."""
        self.start = num_samples

    def _order(self, epoch: int) -> torch.Tensor:
        if not self.shuffle:
            return torch.arange(self.size)
        # One generator an epoch, seeded apart from the per-image streams by its own salt.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(self.size, generator=generator)
