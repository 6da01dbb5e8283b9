"""Several proxy sets as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from mmengine.dataset import Compose

from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.registry import DATASETS


@DATASETS.register_module()
class ConcatProxySet(ProxySet):
    """Proxy sets one after another, as in the paper's ImageNet-Merge (section 3.5).

    Each set takes a block of the merged positions. A view is a function of its key, as in any proxy set, with the
    merged position as ``image``.

    Args:
        datasets: The sets by name; one that is None is left out, so that a config can drop what its base has.
        pipeline: Transforms for the images of every set that has no ``pipeline`` of its own.
        repeats: How often each set's images are seen in one epoch, by the set's name; 1 where nothing is said. With
            2.5, half of them are seen three times and the others twice; with 0.25, a quarter of them is seen. The
            next epoch goes on where the last one stopped, so no image is preferred.

    Raises:
        ValueError: There is no set, ``repeats`` names none of them, or a factor is not positive.
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
            raise ValueError("dataset.datasets: there is no set to merge")
        unknown = sorted(factors.keys() - datasets.keys())
        if unknown:
            raise ValueError(
                f"dataset.repeats: there is no set {', '.join(unknown)}; write some of {', '.join(configs)}"
            )
        wrong = {name: factor for name, factor in factors.items() if not factor > 0}
        if wrong:
            raise ValueError(f"dataset.repeats={wrong}: write a positive number, or None for the set in datasets")
        self.members = {name: self._member(name, config) for name, config in configs.items()}
        self._sets = list(self.members.values())
        self.counts = [max(round(len(member) * factors.get(name, 1)), 1) for name, member in self.members.items()]
        self.ends = list(accumulate(self.counts))
        # Images stand sorted by class, and what is seen of a set in part should not be its first classes.
        self._orders = [
            None if count % len(member) == 0 else np.random.Generator(np.random.PCG64(0)).permutation(len(member))
            for count, member in zip(self.counts, self._sets, strict=True)
        ]

    def full_init(self) -> None:
        """Nothing is listed here: BaseDataset's list stays empty."""
        self._fully_initialized = True

    def __len__(self) -> int:
        """Images of one epoch."""
        return self.ends[-1]

    def find(self, index: int, epoch: int = 0) -> tuple[ProxySet, int]:
        """Which image stands at a merged position.

        Args:
            index: The merged position.
            epoch: Matters for sets of which an epoch does not see every image equally often.

        Returns:
            The set that it is from, and its position there.
        """
        number = bisect_right(self.ends, index)
        member, count, order = self._sets[number], self.counts[number], self._orders[number]
        # Position in the stream of all this set's images over all epochs.
        position = (epoch * count + index - self.ends[number] + count) % len(member)
        return member, position if order is None else int(order[position])

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """What the image's own set says of it, in the first epoch."""
        member, position = self.find(idx)
        return member.get_data_info(position)

    def read(self, index: int, epoch: int) -> dict[str, Any]:
        """As for :class:`ProxySet`, with the pipeline of the image's own set if it has one."""
        member, position = self.find(index, epoch)
        return member.read(position, epoch)

    def set_default_pipeline(self, pipeline: Compose) -> None:
        """Use a pipeline here and in the sets, unless there is one already."""
        super().set_default_pipeline(pipeline)
        for member in self._sets:
            member.set_default_pipeline(self.pipeline)

    def describe(self) -> str:
        """The sets, each with its share of an epoch."""
        lines = [f"ConcatProxySet: {len(self):,} images an epoch, from {len(self.members)} sets"]
        for (name, member), count in zip(self.members.items(), self.counts, strict=True):
            factor = "" if count == len(member) else f" (x {count / len(member):.4g})"
            about = member.describe().replace("\n", "\n    ")
            lines.append(f"  {count / len(self):6.1%}  {name}{factor}: {about}")
        return "\n".join(lines)

    def chosen(self) -> dict[str, list[str]]:
        """As for :class:`ProxySet`, under the sets' names."""
        return {
            f"{name}.{inner}".rstrip("."): images
            for name, member in self.members.items()
            for inner, images in member.chosen().items()
        }

    def _member(self, name: str, config: Mapping[str, Any] | ProxySet) -> ProxySet:
        member = config if isinstance(config, ProxySet) else DATASETS.build(dict(config))
        if not isinstance(member, ProxySet):
            raise ValueError(
                f"dataset.datasets.{name}: {type(member).__name__} is no proxy set; merge subclasses of it"
            )
        member.set_default_pipeline(self.pipeline)
        return member
