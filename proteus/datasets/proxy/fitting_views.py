"""Views to fit a student's initial weights on."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.dataset import Compose
from mmengine.dist import get_rank
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from proteus.datasets.proxy.collate import distill_collate
from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.datasets.seeding import SampleKey

# Differs from the seeds of runs, so that the first views of training are new to the student.
_SEED = 2**31


def load_fitting_views(
    dataset: ProxySet, count: int, size: int, pipeline: Sequence[Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Load views of evenly spaced images, several of each image in a smaller set; always the same ones.

    Args:
        dataset: A proxy set. Its own transforms are not used.
        count: Number of views.
        size: Side of the views in pixels.
        pipeline: Transforms; by default :func:`fitting_pipeline`.

    Returns:
        ``2 * count`` samples: those to fit a student on, then as many others for its heads, of other images as far as
        there are enough.
    """
    views = _with_fitting_pipeline(dataset, size, pipeline)
    return [views[key] for key in fitting_keys(len(dataset), count)]


def read_fitting_views(
    dataset: ProxySet, count: int, size: int, pipeline: Sequence[Mapping[str, Any]] | None = None, **reading: Any
) -> Iterator[Any]:
    """Yield the views of :func:`load_fitting_views` in batches; ``reading`` are options of :func:`read_views`."""
    views = _with_fitting_pipeline(dataset, size, pipeline)
    return read_views(views, fitting_keys(len(dataset), count), **reading)


def read_views(
    dataset: ProxySet,
    keys: Sequence[int],
    title: str,
    batch_size: int = 16,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] = distill_collate,
    multiprocessing_context: Any = None,
) -> Iterator[Any]:
    """Yield views in the order of their keys, in batches and without masks, with a progress bar on rank 0.

    Args:
        dataset: A proxy set, so that the views do not depend on the number of workers.
        keys: Keys of the views, or indices.
        title: Title of the progress bar.
        batch_size: Views per batch.
        num_workers: Worker processes that read images.
        collate_fn: Samples -> batch.
        multiprocessing_context: How the workers are started; see torch's ``DataLoader``.
    """
    batches = [list(keys[start : start + batch_size]) for start in range(0, len(keys), batch_size)]
    workers = min(num_workers, len(batches))
    loader = DataLoader(
        _Unmasked(dataset),
        batch_sampler=batches,
        num_workers=workers,
        # In the workers: a view that comes alone would keep a file open until it is collated.
        collate_fn=collate_fn,
        multiprocessing_context=multiprocessing_context if workers else None,
        # Without one, the loader would take the seed of its workers from the random numbers of the training.
        generator=torch.Generator(),
    )
    with tqdm(
        total=len(keys),
        desc=title,
        unit="view",
        disable=get_rank() != 0,
        # Outside a terminal, a progress bar would fill the log.
        mininterval=0.5 if sys.stderr.isatty() else 30.0,
    ) as bar:
        for chosen, batch in zip(batches, loader, strict=True):
            bar.update(len(chosen))
            yield batch


class _Unmasked(Dataset[dict[str, Any]]):
    """The views without masks: a last batch may be too small for a masked image."""

    def __init__(self, dataset: ProxySet) -> None:
        self.dataset = dataset

    def __getitem__(self, key: int) -> dict[str, Any]:
        return {name: value for name, value in self.dataset[key].items() if name != "mask"}


def _with_fitting_pipeline(dataset: ProxySet, size: int, pipeline: Sequence[Mapping[str, Any]] | None) -> ProxySet:
    return dataset.with_pipeline(Compose(fitting_pipeline(size) if pipeline is None else list(pipeline)))


def fitting_pipeline(size: int) -> list[dict[str, Any]]:
    """Return transforms that make mild views of image files.

    From a start that is fitted on them, a training on strongly augmented views ended nearer to the teacher than from
    one that is fitted on the training's own views (docs/study.md, one seed).
    """
    return [
        {"type": "LoadRandomResizedCrop", "scale": size, "crop_ratio_range": (0.4, 1.0), "interpolation": "bicubic"},
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "TimmRandAugment", "policy": "rand-m3-mstd0.5-inc1"},
        {"type": "ToTensor", "dtype": "uint8"},
        {"type": "PackInputs"},
    ]


def fitting_keys(size: int, count: int) -> list[SampleKey]:
    """Return the keys of the ``2 * count`` views of :func:`load_fitting_views` in a set of ``size`` images."""
    epochs = math.ceil(count / size)
    spaced = [k * epochs * size // count for k in range(count)]
    # Halfway between them, or later views of the same images where there are no others between.
    between = size // (2 * count) or epochs * size
    return [SampleKey(_SEED, *divmod(position, size)) for position in (*spaced, *(each + between for each in spaced))]
