"""Images and sentences that meet in a batch without belonging together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose

from projects.dime_fm.sentences import SentenceSet
from proteus.datasets import ProxySet, SampleKey, distill_collate
from proteus.registry import DATASETS, FUNCTIONS

# Sentences are drawn from a stream of their own, which the views of the images do not touch.
_SALT = 0x5E27


@DATASETS.register_module()
class UnpairedSet(ProxySet):
    """A proxy set whose samples each bring some sentences, drawn at random from all of a sentence set.

    Which ones depends on the sample's key (seed, epoch, image, view) through a hash alone: not on the order of either
    set's files, not on a worker or a rank, and in each epoch on other chances. A sample is only the vehicle: the
    sentences of a batch have nothing to do with its images, and no loss looks at which came with which.

    An epoch is one of the images; sentences are drawn with replacement.

    Args:
        dataset: Config of the proxy set of images.
        sentences: Config of the sentences.
        sentences_per_image: How many come with each image: the ``N / B`` of a batch.

    Raises:
        ValueError: ``dataset`` is no proxy set, or ``sentences_per_image`` is below 1.
    """

    def __init__(self, dataset: Mapping[str, Any], sentences: Mapping[str, Any], sentences_per_image: int = 1) -> None:
        if sentences_per_image < 1:
            raise ValueError(f"dataset.sentences_per_image={sentences_per_image}: write at least 1")
        super().__init__()
        images = DATASETS.build(dict(dataset))
        if not isinstance(images, ProxySet):
            raise ValueError(
                f"dataset.dataset: {type(images).__name__} is no proxy set; write an ImageFolder, Merge..."
            )
        self.dataset = images
        self.pipeline: Compose = images.pipeline
        self.sentences: SentenceSet = DATASETS.build(dict(sentences))
        self.sentences_per_image = sentences_per_image

    def full_init(self) -> None:
        """Nothing is listed here: BaseDataset's list stays empty."""
        self._fully_initialized = True

    def __len__(self) -> int:
        """Number of images."""
        return len(self.dataset)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """The image's sample, with ``tokens`` ``(sentences_per_image, context_length)`` int64."""
        key = key if isinstance(key, SampleKey) else SampleKey(0, 0, int(key))
        return {**self.dataset[key], "tokens": self.sentences.tokens(self.drawn(key))}

    def drawn(self, key: SampleKey) -> list[int]:
        """Positions of the sentences that come with a sample."""
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((*key, _SALT))))
        return [int(index) for index in generator.integers(len(self.sentences), size=self.sentences_per_image)]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """What the set says of an image."""
        return self.dataset.get_data_info(idx)

    def read(self, index: int, epoch: int) -> dict[str, Any]:
        """Not for this set: which sentences come takes the whole key."""
        raise ValueError(
            "UnpairedSet goes round a Merge, not into it: dict(type='UnpairedSet', dataset=dict(type='Merge'))"
        )

    def take_pipeline(self, pipeline: Compose) -> None:
        """Only a merge offers one, and this set cannot be merged."""
        self.read(0, 0)

    def describe(self) -> str:
        """Both sets."""
        return f"{self.dataset.describe()}\n  with {self.sentences_per_image} each of {self.sentences.describe()}"

    def chosen(self) -> dict[str, list[str]]:
        """As for the set of images."""
        return self.dataset.chosen()


@FUNCTIONS.register_module()
def unpaired_collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack images, as :func:`~proteus.datasets.distill_collate`, and the sentences beside them.

    Args:
        samples: Of an :class:`UnpairedSet`, or of any other set of images without masks, which have no ``tokens``.

    Returns:
        What ``distill_collate`` returns, and ``tokens`` ``(N, L)`` int64.
    """
    batch = distill_collate(samples)
    if "tokens" in samples[0]:
        batch["tokens"] = torch.cat([sample["tokens"] for sample in samples])
    return batch
