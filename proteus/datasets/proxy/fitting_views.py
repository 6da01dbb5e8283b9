"""Views to fit a student's first weights on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.dataset import Compose

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
    views = dataset.with_pipeline(Compose(fitting_pipeline(size) if pipeline is None else list(pipeline)))
    return [views[key] for key in fitting_keys(len(dataset), count)]


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
