"""Order in which the images of a proxy set are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from itertools import count
from typing import ClassVar

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.logging import print_log
from torch.utils.data import Sampler

from proteus.datasets.proxy.seeded_set import check_map_style, holds_proxy_set, sets_in
from proteus.datasets.proxy.web_shards import WebShards, check_caches
from proteus.datasets.seeding import SampleKey
from proteus.registry import DATA_SAMPLERS
from proteus.utils.argument_checks import check_whole


@DATA_SAMPLERS.register_module()
class ProxySampler(Sampler[SampleKey]):
    """Endless, resumable stream of shuffled epochs, distributed over the ranks.

    Position ``p`` of the stream depends only on ``p``, the seed and the size of the set. Rank ``r`` of ``W`` takes
    positions ``r, r + W, ...``. Together, ``W`` ranks with batches of ``B / W`` therefore see the same images as one
    process with a batch of ``B``, except with ``repeats``, and resuming is free.

    Args:
        dataset: The proxy set; set by the runner.
        seed: Seed of the run; set by the runner.
        shuffle: Shuffle each epoch.
        repeats: Views of each image within one epoch. As in DeiT's repeated augmentation, an epoch then draws
            ``n // 256 * 256`` views of the first ``1 / repeats`` of the shuffled images, and the views of an image are
            on different ranks (docs/reproduction.md#distillation-data). In a single process they would share a batch;
            as in the released code, it draws each image once per epoch.
        group_views: Distribute images instead of views: all views of an image are consecutive on one rank, so that a
            worker can decode it once (``LoadRandomResizedCrop(cache_last=True)``); also in a single process. This
            differs from the released code: with several ranks, a batch shows each of its images ``repeats`` times
            instead of mostly once, and its masked half (``distill_collate``) has all views of an image or none. An
            epoch drops the last image if it would be shown fewer than ``repeats`` times. If the batch of a rank is a
            multiple of ``repeats``, the ranks together see the same images in each step as one process; otherwise all
            but those at the ends of batches.

    Attributes:
        gives_sample_keys: Marks samplers that yield :class:`SampleKey` objects.

    Raises:
        ValueError: The set is empty or cannot be indexed, ``repeats`` is below 1, or ``group_views`` is set with one
            view per image.
    """

    gives_sample_keys: ClassVar[bool] = True

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
            raise ValueError("sampler.group_views=True has no effect with repeats=1; write repeats=3, or remove it")
        check_map_style(dataset)
        if holds_proxy_set(dataset):
            raise ValueError(
                f"train_dataloader.dataset: {type(dataset).__name__} does not pass sampler keys to the proxy set in "
                "it; wrap it as dict(type='proteus.SeededSet', dataset=...)"
            )
        if len(dataset) == 0:
            raise ValueError("the proxy set is empty")
        shards = [part for part in sets_in(dataset) if isinstance(part, WebShards)]
        for part in shards:
            part.set_order(None)
        check_caches(shards)
        self.rank, self.world = get_dist_info()
        if repeats > 1 and self.world == 1 and not group_views:
            print_log(
                f"train_dataloader.sampler.repeats={repeats} has an effect with several processes; a single one draws "
                "each image once per epoch, as in the released code",
                "current",
            )
            repeats = 1
        self.size = len(dataset)
        self.epoch_length = self.size if repeats == 1 else max(self.size // 256 * 256, min(self.size, 256))
        # Number of consecutive positions that one rank takes.
        self.chunk = repeats if group_views else 1
        self.epoch_length = max(self.epoch_length // self.chunk, 1) * self.chunk
        self.seed = sync_random_seed() if seed is None else seed
        self.shuffle = shuffle
        self.repeats = repeats
        self.start = 0

    def __len__(self) -> int:
        """Number of samples of one epoch on this rank, rounded up."""
        return -(-self.epoch_length // self.world)

    def __iter__(self) -> Iterator[SampleKey]:
        epoch, order = -1, torch.empty(0)
        for sample in count(self.start):
            turn, within = divmod(sample, self.chunk)
            position = (turn * self.world + self.rank) * self.chunk + within
            if position // self.epoch_length != epoch:
                epoch = position // self.epoch_length
                order = self._order(epoch)
            drawn, view = divmod(position % self.epoch_length, self.repeats)
            yield SampleKey(self.seed, epoch, int(order[drawn]), view)

    def skip(self, num_samples: int) -> None:
        """Start at the ``num_samples``-th sample of this rank; MMEngine's loop calls this when it resumes."""
        self.start = num_samples

    def reseed(self, seed: int) -> None:
        """Set the seed, before the first sample is drawn."""
        self.seed = seed

    def _order(self, epoch: int) -> torch.Tensor:
        if not self.shuffle:
            return torch.arange(self.size)
        # The factor separates these seeds from those of the images.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(self.size, generator=generator)
