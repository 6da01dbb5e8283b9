"""Views to fit a student's first weights on."""

from __future__ import annotations

from typing import Any

from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.datasets.seeding import SampleKey

# Differs from the seeds of runs, so that the first views of training are new to the student.
_SEED = 2**31


def load_fitting_views(dataset: ProxySet, count: int) -> list[dict[str, Any]]:
    """Load views of evenly spaced images, several of each image in a smaller set; always the same ones.

    Args:
        dataset: A proxy set with its pipeline.
        count: Number of views.

    Returns:
        ``2 * count`` samples: those to fit a student on, then as many others for its heads, of other images as far as
        there are enough.
    """
    return [dataset[key] for key in fitting_keys(len(dataset), count)]


def fitting_keys(size: int, count: int) -> list[SampleKey]:
    """Return the keys of the ``2 * count`` views of :func:`load_fitting_views` in a set of ``size`` images."""
    step = max(size // count, 1)
    positions = [step * k + (step // 2 if k >= count else 0) for k in range(2 * count)]
    return [SampleKey(_SEED, *divmod(position, size)) for position in positions]
