"""Which image size, batch size and learning rate each iteration of a run has."""

from __future__ import annotations

import difflib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from proteus.utils.argument_checks import check_choice, check_whole

_KEYS = ("size", "end", "batch_size", "grow_from")
# Batches that hold a number of patches are rounded down to a multiple of this, which micro-batches can divide.
_MULTIPLE = 8


@dataclass(frozen=True)
class Segment:
    """Iterations with the same batches.

    Attributes:
        begin: First iteration, from 0.
        end: The iteration after the last; None if the run has no known end.
        size: Height and width of the images in pixels.
        batch_size: Images per process.
        lr_factor: Factor of the learning rates.
    """

    begin: int
    end: int | None
    size: tuple[int, int]
    batch_size: int
    lr_factor: float = 1.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number, height and width of the images of a batch."""
        return self.batch_size, *self.size


class ResolutionSchedule:
    """Image sizes over a run, in stages. Arguments as for :class:`~proteus.datasets.ResolutionBatchSampler`.

    Args:
        stages: The stages.
        batch_size: Images per process of stages without ``batch_size``; the learning rate belongs to it.
        max_iters: Iterations of the run.
        patch_size: Side of a patch in pixels.
        interval: Least number of iterations between two sizes of a growing stage.
        constant_patches: Whether smaller images come in larger batches.
        scale_lr: ``linear``, ``sqrt`` or None.
        key: Key of the schedule in the config, for messages.

    Attributes:
        segments: Runs of equal batches, in order.

    Raises:
        ValueError: A stage is invalid; the message has the key, what was found, and what to write.
    """

    def __init__(
        self,
        stages: Sequence[Mapping[str, Any]],
        batch_size: int,
        max_iters: int | None = None,
        patch_size: int = 14,
        interval: int = 1,
        constant_patches: bool = False,
        scale_lr: str | None = None,
        key: str = "train_dataloader.batch_sampler",
    ) -> None:
        check_choice(f"{key}.scale_lr", scale_lr, (None, "linear", "sqrt"))
        self.batch_size = check_whole("train_dataloader.batch_size", batch_size)
        self.patch_size = check_whole(f"{key}.patch_size", patch_size)
        self.interval = check_whole(f"{key}.interval", interval)
        self.max_iters = max_iters
        self.power = {None: 0.0, "linear": 1.0, "sqrt": 0.5}[scale_lr]
        if not isinstance(stages, Sequence) or isinstance(stages, str) or not stages:
            raise ValueError(f"{key}.stages={stages!r}: write a list such as [dict(size=112, end=0.6), dict(size=224)]")
        places = [f"{key}.stages[{index}]" for index in range(len(stages))]
        parsed = [_Stage.parse(stage, place, self.patch_size) for stage, place in zip(stages, places, strict=True)]
        ends = self._ends([stage.end for stage in parsed], places, key)
        largest = max(stage.size[0] * stage.size[1] for stage in parsed) if constant_patches else None
        self.segments: tuple[Segment, ...] = _merged(self._segments(parsed, ends, places, largest))
        self._begins = [segment.begin for segment in self.segments]

    def at(self, iteration: int) -> Segment:
        """Return the segment of an iteration; after the end of the run, the last one."""
        return self.segments[bisect_right(self._begins, iteration) - 1]

    def images_before(self, iteration: int) -> int:
        """Count the images that one process has seen before an iteration."""
        total = 0
        for segment, after in zip(self.segments, (*self._begins[1:], iteration), strict=True):
            total += max(min(after, iteration) - segment.begin, 0) * segment.batch_size
        return total

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """The different sizes, in the order of their first use."""
        return list(dict.fromkeys(segment.size for segment in self.segments))

    def _ends(self, given: list[int | float | None], places: list[str], key: str) -> list[int | None]:
        ends: list[int | None] = []
        for end, place in zip(given[:-1], places, strict=False):
            if end is None:
                raise ValueError(f"{place}.end: missing; write the iteration or the fraction of the run where it ends")
            last = self._iteration(end, place, key)
            which = f"{place}.end={end}" + (f", iteration {last}" if isinstance(end, float) else "")
            before = (ends[-1] if ends else 0) or 0
            if last <= before:
                raise ValueError(f"{which}: the stage begins at iteration {before}; write a later one")
            if self.max_iters is not None and last >= self.max_iters:
                raise ValueError(f"{which}: train_cfg.max_iters is {self.max_iters}; write less, or 0.6")
            ends.append(last)
        if given[-1] is not None:
            raise ValueError(f"{places[-1]}.end={given[-1]}: the last stage lasts until the end of the run; remove end")
        return [*ends, self.max_iters]

    def _iteration(self, end: int | float, place: str, key: str) -> int:
        if not isinstance(end, float):
            return end
        if self.max_iters is None:
            raise ValueError(
                f"{place}.end={end} is a fraction of a run of unknown length: write an iteration, or {key}.max_iters, "
                "the train_cfg.max_iters of the run"
            )
        return round(end * self.max_iters)

    def _segments(
        self, stages: list[_Stage], ends: list[int | None], places: list[str], largest: int | None
    ) -> Iterator[Segment]:
        begin = 0
        for stage, end, place in zip(stages, ends, places, strict=True):
            if stage.grow_from is None:
                yield self._segment(begin, end, stage.size, stage.batch_size, largest)
            elif end is None:
                raise ValueError(f"{place}.grow_from: the run has no known end; write max_iters, or a last stage")
            else:
                sizes = stage.sizes(self.patch_size)
                steps = [(end - begin) * n // len(sizes) // self.interval * self.interval for n in range(len(sizes))]
                borders = [*(begin + step for step in steps), end]
                for size, first, after in zip(sizes, borders, borders[1:], strict=False):
                    if after > first:  # a short stage skips sizes
                        yield self._segment(first, after, size, stage.batch_size, largest)
            begin = end or begin

    def _segment(
        self, begin: int, end: int | None, size: tuple[int, int], images: int | None, largest: int | None
    ) -> Segment:
        count = images or self.batch_size
        if images is None and largest is not None:
            count = self.batch_size * largest // (size[0] * size[1])
            count = max(count // _MULTIPLE * _MULTIPLE, self.batch_size)
        return Segment(begin, end, size, count, float((count / self.batch_size) ** self.power))


@dataclass(frozen=True)
class _Stage:
    """A stage of the config, checked on its own."""

    size: tuple[int, int]
    end: int | float | None
    batch_size: int | None
    grow_from: tuple[int, int] | None

    @classmethod
    def parse(cls, stage: Any, place: str, patch_size: int) -> _Stage:
        if not isinstance(stage, Mapping):
            raise ValueError(f"{place}={stage!r}: write a dict such as dict(size=112, end=0.6)")
        unknown = next((name for name in stage if name not in _KEYS), None)
        if unknown is not None:
            near = difflib.get_close_matches(str(unknown), _KEYS, 1)
            hint = f"did you mean '{near[0]}'? It" if near else "it"
            raise ValueError(f"{place}.{unknown}: unknown key of a stage; {hint} takes: {', '.join(_KEYS)}")
        if "size" not in stage:
            raise ValueError(f"{place}.size: missing; write a side in pixels, or (height, width)")
        size = _sides(f"{place}.size", stage["size"], patch_size)
        grown = stage.get("grow_from")
        grow_from = None if grown is None else _sides(f"{place}.grow_from", grown, patch_size)
        if grow_from is not None and (grow_from == size or grow_from[0] > size[0] or grow_from[1] > size[1]):
            raise ValueError(f"{place}.grow_from={grown}: write a smaller size than size={stage['size']}")
        end = stage.get("end")
        is_fraction = isinstance(end, float) and 0 < end < 1
        if end is not None and not is_fraction and (isinstance(end, bool) or not isinstance(end, int) or end < 1):
            raise ValueError(f"{place}.end={end!r}: write an iteration, or a fraction of the run such as 0.6")
        count = stage.get("batch_size")
        return cls(size, end, None if count is None else check_whole(f"{place}.batch_size", count), grow_from)

    def sizes(self, patch_size: int) -> list[tuple[int, int]]:
        """The sizes of a growing stage, at most one patch apart along each side."""
        first, last = self.grow_from or self.size, self.size
        sides = [((end - start) // patch_size, start) for start, end in zip(first, last, strict=True)]
        steps = max(count for count, _ in sides)
        grown = [[start + patch_size * round(count * n / steps) for count, start in sides] for n in range(steps + 1)]
        return [(height, width) for height, width in grown]


def _merged(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Join neighbours with the same batches."""
    joined: list[Segment] = []
    for segment in segments:
        if joined and (joined[-1].shape, joined[-1].lr_factor) == (segment.shape, segment.lr_factor):
            joined[-1] = replace(joined[-1], end=segment.end)
        else:
            joined.append(segment)
    return tuple(joined)


def _sides(name: str, value: Any, patch_size: int) -> tuple[int, int]:
    """Read a side or ``(height, width)`` in pixels."""
    pair = value if isinstance(value, (list, tuple)) else (value, value)
    if len(pair) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in pair):
        raise ValueError(f"{name}={value!r}: write a side in pixels, or (height, width)")
    for side in pair:
        lower = side - side % patch_size
        if lower != side:
            nearest = " or ".join(str(each) for each in (lower, lower + patch_size) if each)
            raise ValueError(
                f"{name}={value!r}: {side} px is not a multiple of patch_size={patch_size}; write {nearest}"
            )
    return pair[0], pair[1]
