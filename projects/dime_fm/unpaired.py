"""Images and sentences that meet in a batch without belonging together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose

from projects.dime_fm.sentences import SentenceSet
from proteus.datasets import FixedViews, ProxySet, SampleKey, distill_collate
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
        _check_count(sentences_per_image)
        super().__init__()
        images = DATASETS.build(dict(dataset))
        if not isinstance(images, ProxySet):
            raise ValueError(
                f"dataset.dataset: {type(images).__name__} is no proxy set; write an ImageFolder, ConcatProxySet..."
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
        """The image's sample, with what :func:`sentences_of` adds."""
        key = SampleKey.of(key)
        return {
            **self.dataset[key],
            **sentences_of(self.sentences, drawn(key, self.sentences, self.sentences_per_image)),
        }

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """What the set says of an image."""
        return self.dataset.get_data_info(idx)

    def read(self, index: int, epoch: int) -> dict[str, Any]:
        """Not for this set: which sentences come takes the whole key."""
        raise ValueError(
            "UnpairedSet cannot be part of a ConcatProxySet; put the ConcatProxySet inside it: "
            "dict(type='UnpairedSet', dataset=dict(type='ConcatProxySet'))"
        )

    def set_default_pipeline(self, pipeline: Compose) -> None:
        """Only a merge offers one, and this set cannot be merged."""
        self.read(0, 0)

    def describe(self) -> str:
        """Both sets."""
        return f"{self.dataset.describe()}\n  with {self.sentences_per_image} each of {self.sentences.describe()}"

    def chosen(self) -> dict[str, list[str]]:
        """As for the set of images."""
        return self.dataset.chosen()


@DATASETS.register_module()
class UnpairedFixedViews(FixedViews):
    """The same with a few fixed views of each image, of which the teacher's embeddings can be read from disk.

    ``tools/cache_teacher.py`` computes those of the images once into ``cache``, and
    ``python -m projects.dime_fm.cache_sentences`` those of the sentences into ``sentences.cache``. Which sentences come
    with a view is drawn anew in each epoch.

    Args:
        sentences: Config of the sentences.
        sentences_per_image: As for :class:`UnpairedSet`.
        **views: As for :class:`~proteus.datasets.FixedViews`.

    Raises:
        ValueError: As for both.
    """

    def __init__(self, sentences: Mapping[str, Any], sentences_per_image: int = 1, **views: Any) -> None:
        _check_count(sentences_per_image)
        super().__init__(**views)
        self.sentences: SentenceSet = DATASETS.build(dict(sentences))
        self.sentences_per_image = sentences_per_image

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """The view's sample, with what :func:`sentences_of` adds."""
        key = SampleKey.of(key)
        sample = super().__getitem__(key)
        return {**sample, **sentences_of(self.sentences, drawn(key, self.sentences, self.sentences_per_image))}

    def describe(self) -> str:
        """Both sets."""
        return f"{super().describe()}\n  with {self.sentences_per_image} each of {self.sentences.describe()}"


def drawn(key: SampleKey, sentences: SentenceSet, count: int) -> list[int]:
    """Positions of the ``count`` sentences that come with a sample."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((*key.parts, _SALT))))
    return [int(index) for index in generator.integers(len(sentences), size=count)]


def sentences_of(sentences: SentenceSet, positions: Sequence[int]) -> dict[str, Any]:
    """What a sample says of its sentences.

    Returns:
        ``tokens`` ``(N, L)`` int64; where the teacher's embeddings are read from disk, ``teacher_texts`` ``(N, D)`` and
        ``text_teacher``, what they depend on.
    """
    found: dict[str, Any] = {"tokens": sentences.tokens(positions)}
    if sentences.cache is not None:
        found["teacher_texts"] = sentences.teacher_texts(positions)
        found["text_teacher"] = sentences.cached().teacher
    return found


def _check_count(sentences_per_image: int) -> None:
    if sentences_per_image < 1:
        raise ValueError(f"dataset.sentences_per_image={sentences_per_image}: write at least 1")


@FUNCTIONS.register_module()
def unpaired_collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack images, as :func:`~proteus.datasets.distill_collate`, and the sentences beside them.

    Args:
        samples: Of an :class:`UnpairedSet`, or of any other set of images without masks, which have no ``tokens``.

    Returns:
        What ``distill_collate`` returns, and of the sentences ``tokens`` ``(N, L)`` int64 and, from the teacher's
        cache, ``teacher_texts`` ``(N, D)`` and ``text_teacher``.
    """
    batch = distill_collate(samples)
    for key in ("tokens", "teacher_texts"):
        if key in samples[0]:
            batch[key] = torch.cat([sample[key] for sample in samples])
    if "text_teacher" in samples[0]:
        batch["text_teacher"] = samples[0]["text_teacher"]
    return batch
