"""Concatenation of proxy sets."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from copy import copy
from itertools import accumulate
from typing import Any

import numpy as np
from mmengine.dataset import Compose

from proteus.compat import mark_initialized
from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.registry import DATASETS


@DATASETS.register_module()
class ConcatProxySet(ProxySet):
    """Concatenated proxy sets, as in the paper's ImageNet-Merge (section 3.5).

    Each set occupies a block of positions. As in any proxy set, a view depends only on its key, with the position in
    the concatenation as ``image``.

    Args:
        datasets: The sets by name. None skips a set, so that a config can drop a set of its base.
        pipeline: Transforms of the sets that have no ``pipeline``.
        repeats: How often the images of a set are seen in one epoch, by the name of the set; default 1. With 2.5, half
            of them are seen three times and the others twice; with 0.25, a quarter of them is seen. The next epoch
            continues where the last one stopped, so all images are seen equally often in the long run.

    Raises:
        ValueError: ``datasets`` is empty, ``repeats`` names an unknown set, or a factor is not positive.
    """

    def __init__(
        self,
        datasets: Mapping[str, Mapping[str, Any] | ProxySet | None],
        pipeline: Sequence[Any] = (),
        repeats: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(pipeline=pipeline)
        configs = {name: config for name, config in datasets.items() if config is not None}
        factors = dict(repeats or {})
        if not configs:
            raise ValueError("dataset.datasets has no sets to concatenate")
        unknown = sorted(factors.keys() - datasets.keys())
        if unknown:
            raise ValueError(f"dataset.repeats: unknown sets {', '.join(unknown)}; choose from {', '.join(configs)}")
        wrong = {name: factor for name, factor in factors.items() if not factor > 0}
        if wrong:
            raise ValueError(f"dataset.repeats={wrong}: write a positive number, or None for the set in datasets")
        self.members = {name: self._member(name, config) for name, config in configs.items()}
        self._sets = list(self.members.values())
        self.counts = [max(round(len(member) * factors.get(name, 1)), 1) for name, member in self.members.items()]
        self.ends = list(accumulate(self.counts))
        # Images are sorted by class; a set that is seen in part is shuffled so that all classes occur.
        self._orders = [
            None if count % len(member) == 0 else np.random.Generator(np.random.PCG64(0)).permutation(len(member))
            for count, member in zip(self.counts, self._sets, strict=True)
        ]

    def full_init(self) -> None:
        """Do nothing: BaseDataset's list stays empty."""
        mark_initialized(self)

    def __len__(self) -> int:
        """Images of one epoch."""
        return self.ends[-1]

    def find(self, index: int, epoch: int = 0) -> tuple[ProxySet, int]:
        """Find the image at a position.

        Args:
            index: Position in the concatenation.
            epoch: The epoch, which matters for sets with fractional ``repeats``.

        Returns:
            The set of the image, and its position in that set.
        """
        number = bisect_right(self.ends, index)
        member, count, order = self._sets[number], self.counts[number], self._orders[number]
        # Position in the endless stream of this set's images over all epochs.
        position = (epoch * count + index - self.ends[number] + count) % len(member)
        return member, position if order is None else int(order[position])

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return the entry of an image in its own set, for the first epoch."""
        member, position = self.find(idx)
        return member.get_data_info(position)

    def read(self, index: int, epoch: int) -> dict[str, Any]:
        """Read as :class:`ProxySet` does, with the pipeline of the image's own set if it has one."""
        member, position = self.find(index, epoch)
        return member.read(position, epoch)

    def set_default_pipeline(self, pipeline: Compose) -> None:
        """Set the pipeline here and in all sets that have none."""
        super().set_default_pipeline(pipeline)
        for member in self._sets:
            member.set_default_pipeline(self.pipeline)

    def with_pipeline(self, pipeline: Compose) -> ConcatProxySet:
        """Return the same images with other transforms, in all sets."""
        other = copy(self)
        other.pipeline = pipeline
        other.members = {name: member.with_pipeline(pipeline) for name, member in self.members.items()}
        other._sets = list(other.members.values())
        return other

    def describe(self) -> str:
        """Describe the sets, with the share of each in an epoch."""
        lines = [f"ConcatProxySet: {len(self):,} images an epoch, from {len(self.members)} sets"]
        for (name, member), count in zip(self.members.items(), self.counts, strict=True):
            factor = "" if count == len(member) else f" (x {count / len(member):.4g})"
            about = member.describe().replace("\n", "\n    ")
            lines.append(f"  {count / len(self):6.1%}  {name}{factor}: {about}")
        return "\n".join(lines)

    def chosen(self) -> dict[str, list[str]]:
        """Return the chosen images of all sets, by set name."""
        return {
            f"{name}.{inner}".rstrip("."): images
            for name, member in self.members.items()
            for inner, images in member.chosen().items()
        }

    def _member(self, name: str, config: Mapping[str, Any] | ProxySet) -> ProxySet:
        member = config if isinstance(config, ProxySet) else DATASETS.build(dict(config))
        if not isinstance(member, ProxySet):
            raise ValueError(f"dataset.datasets.{name}: {type(member).__name__} is not a subclass of ProxySet")
        member.set_default_pipeline(self.pipeline)
        return member
