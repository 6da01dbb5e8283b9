"""Batches of unrelated images and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose

from projects.dime_fm.sentences import SentenceSet
from proteus.compat import mark_initialized
from proteus.datasets import FixedViews, ProxySet, SampleKey, distill_collate
from proteus.registry import DATASETS, FUNCTIONS

# Sentences have their own random stream, independent of the image augmentation.
_SALT = 0x5E27


@DATASETS.register_module()
class UnpairedSet(ProxySet):
    """A proxy set that adds randomly drawn sentences to each image.

    The draw is a hash of the sample's key (seed, epoch, image, view): it does not depend on the order of files, on
    workers or on ranks, and differs between epochs. The sentences of a batch are unrelated to its images, and no loss
    uses which came with which.

    An epoch is one pass over the images; sentences are drawn with replacement.

    Args:
        dataset: Config of the proxy set of images.
        sentences: Config of the sentences.
        sentences_per_image: Number of sentences per image: the ``N / B`` of a batch.

    Raises:
        ValueError: ``dataset`` is not a proxy set, or ``sentences_per_image`` is below 1.
    """

    def __init__(self, dataset: Mapping[str, Any], sentences: Mapping[str, Any], sentences_per_image: int = 1) -> None:
        _check_count(sentences_per_image)
        super().__init__()
        images = DATASETS.build(dict(dataset))
        if not isinstance(images, ProxySet):
            raise ValueError(
                f"dataset.dataset: {type(images).__name__} is not a proxy set; write an ImageFolder, ConcatProxySet..."
            )
        self.dataset = images
        self.pipeline: Compose = images.pipeline
        self.sentences: SentenceSet = DATASETS.build(dict(sentences))
        self.sentences_per_image = sentences_per_image

    def full_init(self) -> None:
        """Do nothing: the images are listed by ``dataset``."""
        mark_initialized(self)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.dataset)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """Return the image's sample with the keys of :func:`sentences_of`."""
        key = SampleKey.of(key)
        return {
            **self.dataset[key],
            **sentences_of(self.sentences, drawn(key, self.sentences, self.sentences_per_image)),
        }

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return the metadata of an image."""
        return self.dataset.get_data_info(idx)

    def read(self, index: int, epoch: int) -> dict[str, Any]:
        """Raise: the sentences depend on the whole sample key."""
        raise ValueError(
            "UnpairedSet cannot be part of a ConcatProxySet; put the ConcatProxySet inside it: "
            "dict(type='UnpairedSet', dataset=dict(type='ConcatProxySet'))"
        )

    def set_default_pipeline(self, pipeline: Compose) -> None:
        """Raise: this set cannot be part of a ``ConcatProxySet``."""
        self.read(0, 0)

    def with_pipeline(self, pipeline: Compose) -> ProxySet:
        """Return the images with other transforms, without sentences."""
        return self.dataset.with_pipeline(pipeline)

    def describe(self) -> str:
        """Both sets."""
        return f"{self.dataset.describe()}\n  with {self.sentences_per_image} each of {self.sentences.describe()}"

    def chosen(self) -> dict[str, list[str]]:
        """Return the selected images of ``dataset``."""
        return self.dataset.chosen()


@DATASETS.register_module()
class UnpairedFixedViews(FixedViews):
    """:class:`UnpairedSet` with fixed views per image, so that the teacher's embeddings can be cached on disk.

    ``tools/cache_teacher.py`` writes those of the images to ``cache``, and
    ``python -m projects.dime_fm.cache_sentences`` those of the sentences to ``sentences.cache``. The sentences of a
    view are drawn again in each epoch.

    Args:
        sentences: Config of the sentences.
        sentences_per_image: As for :class:`UnpairedSet`.
        **views: Arguments of :class:`~proteus.datasets.FixedViews`.

    Raises:
        ValueError: As for :class:`UnpairedSet` and :class:`~proteus.datasets.FixedViews`.
    """

    def __init__(self, sentences: Mapping[str, Any], sentences_per_image: int = 1, **views: Any) -> None:
        _check_count(sentences_per_image)
        super().__init__(**views)
        self.sentences: SentenceSet = DATASETS.build(dict(sentences))
        self.sentences_per_image = sentences_per_image

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """Return the view's sample with the keys of :func:`sentences_of`."""
        key = SampleKey.of(key)
        sample = super().__getitem__(key)
        return {**sample, **sentences_of(self.sentences, drawn(key, self.sentences, self.sentences_per_image))}

    def describe(self) -> str:
        """Both sets."""
        return f"{super().describe()}\n  with {self.sentences_per_image} each of {self.sentences.describe()}"


def drawn(key: SampleKey, sentences: SentenceSet, count: int) -> list[int]:
    """Draw the positions of a sample's ``count`` sentences."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((*key.parts, _SALT))))
    return [int(index) for index in generator.integers(len(sentences), size=count)]


def sentences_of(sentences: SentenceSet, positions: Sequence[int]) -> dict[str, Any]:
    """Return the entries of a sample for its sentences.

    Returns:
        ``tokens`` ``(N, L)`` int64; with a cache also ``teacher_texts`` ``(N, D)`` and the fingerprint
        ``text_teacher``.
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
    """Collate images as :func:`~proteus.datasets.distill_collate` does, and concatenate their sentences.

    Args:
        samples: Samples of an :class:`UnpairedSet`, or of any other set of images, without ``tokens``.

    Returns:
        The batch of ``distill_collate`` with ``tokens`` ``(N, L)`` int64 and, from the teacher's cache,
        ``teacher_texts`` ``(N, D)`` and ``text_teacher``.
    """
    batch = distill_collate(samples)
    for key in ("tokens", "teacher_texts"):
        if key in samples[0]:
            batch[key] = torch.cat([sample[key] for sample in samples])
    if "text_teacher" in samples[0]:
        batch["text_teacher"] = samples[0]["text_teacher"]
    return batch
