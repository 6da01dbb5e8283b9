"""Order in which shards are visited, and images are drawn from the shards in use."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from hashlib import sha1

import numpy as np
import torch


class ShardOrder:
    """Shuffled order of an endless stream of images that reads few shards at a time, and each of them once per epoch.

    The shards of an epoch are shuffled and dealt to ``lanes``, so that all lanes have nearly the same number of images
    since the start of the stream. A lane reads ``window`` shards together, with their images shuffled, then the next
    ones; at the end of its epoch it starts the next one. Everything depends only on the arguments.

    Args:
        numbers: Number of the shard of each image ``(N,)``.
        names: Names of the shards.
        lanes: Number of lanes.
        window: Number of shards that a lane reads together.
        seed: Seed of the run.
        shuffle: Shuffle shards and images; otherwise the shards are dealt in order, and the images are in order.
    """

    def __init__(
        self, numbers: np.ndarray, names: list[str], lanes: int, window: int, seed: int, shuffle: bool = True
    ) -> None:
        self.lanes, self.window, self.seed, self.shuffle = lanes, window, seed, shuffle
        self._numbers, self._names = numbers, names
        sorting = None if bool((np.diff(numbers) >= 0).all()) else np.argsort(numbers, kind="stable")
        self._sorting = sorting
        self._counts = np.bincount(numbers, minlength=len(names))
        self._starts = np.concatenate([[0], np.cumsum(self._counts)])
        self._used = np.flatnonzero(self._counts)
        # Images of each lane before the next epoch to deal; its images in each epoch; and the latest epochs: more than
        # two are in use only if some lanes have no shard in an epoch.
        self._loads = [0] * lanes
        self._next_epoch = 0
        self._lengths: list[list[int]] = []
        self._keep = 2 + lanes // max(len(self._used), 1)
        self._epochs: dict[int, list[list[int]]] = {}
        self._places: dict[int, dict[int, tuple[int, int]]] = {}

    def working_set(self, size: int) -> int:
        """Return how many bytes all lanes read at a time, with one window read ahead, of a set of ``size`` bytes."""
        return round(size * min(2 * self.lanes * self.window / max(len(self._used), 1), 1))

    def shards(self, epoch: int, lane: int) -> list[int]:
        """Return the shards of a lane in an epoch, in order."""
        return self._deal(epoch)[lane]

    def length(self, epoch: int, lane: int) -> int:
        """Return the number of images of a lane in an epoch."""
        if epoch >= len(self._lengths):
            self._deal(epoch)
        return self._lengths[epoch][lane]

    def images(self, epoch: int, lane: int) -> Iterator[np.ndarray]:
        """Yield the images of each window of a lane in an epoch, in order."""
        shards = self.shards(epoch, lane)
        for start in range(0, len(shards), self.window):
            images = np.concatenate([self._images_of(shard) for shard in shards[start : start + self.window]])
            if self.shuffle:
                images = images[torch.randperm(len(images), generator=self._generator(epoch, lane, start)).numpy()]
            yield images

    def place(self, epoch: int, image: int) -> tuple[int, int, int]:
        """Return epoch, lane and window that read an image."""
        shard = int(self._numbers[image])
        lanes = self._deal(epoch)
        if epoch not in self._places:
            self._places = {
                known: {each: (lane, at) for lane, row in enumerate(rows) for at, each in enumerate(row)}
                for known, rows in {**self._epochs, epoch: lanes}.items()
            }
        lane, at = self._places[epoch][shard]
        return epoch, lane, at // self.window

    def next_window(self, epoch: int, lane: int, window: int, first: int = 0) -> list[str]:
        """Return the names of the shards that a lane reads in this window and the next.

        Args:
            epoch: The epoch.
            lane: The lane.
            window: Number of the window, from 0.
            first: Rotates the names of each window, so that several processes start with different ones.
        """
        here = self.shards(epoch, lane)[window * self.window : (window + 1) * self.window]
        ahead = self.shards(epoch, lane)[(window + 1) * self.window : (window + 2) * self.window]
        ahead = ahead or self.shards(epoch + 1, lane)[: self.window]
        names = [[self._names[shard] for shard in shards] for shards in (here, ahead)]
        return [each[(first + at) % len(each)] for each in names for at in range(len(each))]

    def _images_of(self, shard: int) -> np.ndarray:
        images = np.arange(self._starts[shard], self._starts[shard + 1])
        return images if self._sorting is None else self._sorting[images]

    def _deal(self, epoch: int) -> list[list[int]]:
        """Deal the shards of an epoch; all earlier epochs are dealt first, because they fill the lanes."""
        if epoch not in self._epochs and epoch < self._next_epoch:
            self._loads, self._next_epoch, self._epochs = [0] * self.lanes, 0, {}
        while self._next_epoch <= epoch:
            shards = self._used
            if self.shuffle:
                order = torch.randperm(len(shards), generator=self._generator(self._next_epoch, -1, 0))
                shards = shards[order.numpy()]
            heap = [(load, lane) for lane, load in enumerate(self._loads)]
            heapq.heapify(heap)
            dealt: list[list[int]] = [[] for _ in range(self.lanes)]
            for shard in shards.tolist():
                load, lane = heap[0]
                dealt[lane].append(shard)
                heapq.heapreplace(heap, (load + int(self._counts[shard]), lane))
            before, self._loads = self._loads, [load for load, _ in sorted(heap, key=lambda pair: pair[1])]
            if self._next_epoch == len(self._lengths):
                self._lengths.append([after - load for after, load in zip(self._loads, before, strict=True)])
            self._epochs[self._next_epoch] = dealt
            self._epochs.pop(self._next_epoch - self._keep, None)
            self._next_epoch += 1
        return self._epochs[epoch]

    def _generator(self, epoch: int, lane: int, start: int) -> torch.Generator:
        digest = sha1(f"{self.seed} {epoch} {lane} {start}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
