"""Sampler that reads each shard once per epoch, on one rank."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from itertools import islice
from typing import ClassVar

from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from proteus.datasets.proxy.shard_order import ShardOrder
from proteus.datasets.proxy.web_shards import WebShards
from proteus.datasets.seeding import SampleKey
from proteus.registry import DATA_SAMPLERS
from proteus.structures import ConfigError
from proteus.utils.argument_checks import check_whole


@DATA_SAMPLERS.register_module()
class ShardSampler(Sampler[SampleKey]):
    """Endless, resumable stream of shuffled epochs for :class:`WebShards`, in which a rank reads its own shards.

    Each of ``lanes`` independent streams reads ``window`` shards at a time (:class:`ShardOrder`), and position ``p`` of
    the whole stream is the next image of lane ``p % lanes``, with all its views. Rank ``r`` of ``W`` takes positions
    ``r, r + W, ...``: where ``W`` divides ``lanes`` and the batch of a rank is a multiple of ``repeats``, ``W`` ranks
    with batches of ``B / W`` see the same images as one process with a batch of ``B``. The order is the same from a
    disk and from a URL, and resuming is free.

    A batch holds images of ``lanes * window`` shards. Pack them with ``proteus pack --shuffle``; otherwise a
    shard holds images of few classes.

    Args:
        dataset: The set; set by the runner.
        seed: Seed of the run; set by the runner.
        shuffle: Shuffle shards and images.
        repeats: Views of each image, consecutive on its rank, so that a worker can decode it once
            (``LoadRandomResizedCrop(cache_last=True)``); an epoch has this many views of every image.
        lanes: Number of streams, a multiple of the number of ranks; by default 8, or the next multiple.
        window: Number of shards that a stream reads together.

    Attributes:
        gives_sample_keys: Marks samplers that yield :class:`SampleKey` objects.

    Raises:
        ConfigError: The set is not a :class:`WebShards`, or ``lanes`` is not a multiple of the number of ranks.
        ValueError: A number is below 1.
    """

    gives_sample_keys: ClassVar[bool] = True

    def __init__(
        self,
        dataset: Sized,
        seed: int | None = None,
        shuffle: bool = True,
        repeats: int = 1,
        lanes: int | None = None,
        window: int = 8,
    ) -> None:
        check_whole("sampler.repeats", repeats)
        check_whole("sampler.window", window)
        self.rank, self.world = get_dist_info()
        if lanes is None:
            lanes = -(-max(8, self.world) // self.world) * self.world
        check_whole("sampler.lanes", lanes)
        if lanes % self.world:
            fitting = self.world * max(lanes // self.world, 1)
            raise ConfigError([f"sampler.lanes={lanes} is not a multiple of {self.world} ranks; write {fitting}"])
        if not isinstance(dataset, WebShards):
            found = type(dataset).__name__
            raise ConfigError(
                [f"sampler: ShardSampler reads sets of type WebShards, found {found}; write ProxySampler"]
            )
        self.dataset, self.size, self.repeats, self.shuffle = dataset, len(dataset), repeats, shuffle
        self.lanes, self.window = lanes, window
        self.reseed(sync_random_seed() if seed is None else seed)
        self.start = 0

    def __len__(self) -> int:
        """Number of samples of one epoch on this rank, rounded up."""
        return -(-self.size * self.repeats // self.world)

    def __iter__(self) -> Iterator[SampleKey]:
        own = range(self.rank, self.order.lanes, self.world)
        images, view = divmod(self.start, self.repeats)
        turns, number = divmod(images, len(own))
        streams = [
            self._stream(lane, (turns + (place < number)) * self.repeats + view * (place == number))
            for place, lane in enumerate(own)
        ]
        while True:
            yield from islice(streams[number], self.repeats - view)
            number, view = (number + 1) % len(own), 0

    def reseed(self, seed: int) -> None:
        """Set the seed, before the first sample is drawn."""
        self.seed = seed
        self.order = ShardOrder(*self.dataset.shard_numbers(), self.lanes, self.window, seed, self.shuffle)
        self.dataset.set_order(self.order)

    def skip(self, num_samples: int) -> None:
        """Start at the ``num_samples``-th sample of this rank; MMEngine's loop calls this when it resumes."""
        self.start = num_samples

    def _stream(self, lane: int, skip: int) -> Iterator[SampleKey]:
        epoch = 0
        while skip >= (length := self.order.length(epoch, lane) * self.repeats):
            skip, epoch = skip - length, epoch + 1
        while True:
            for images in self.order.images(epoch, lane):
                for position in range(min(skip, len(images) * self.repeats), len(images) * self.repeats):
                    drawn, view = divmod(position, self.repeats)
                    yield SampleKey(self.seed, epoch, int(images[drawn]), view)
                skip = max(skip - len(images) * self.repeats, 0)
            epoch += 1
