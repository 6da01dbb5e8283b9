"""How long steps took and how long they waited for data, on the host's clock or on the device's."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

# Steps whose events are kept at most, where nobody reads them.
_MOST_STEPS = 10_000


class Spent(NamedTuple):
    """What several steps took together.

    Attributes:
        steps: Number of steps.
        images: Number of images in them.
        seconds: From the beginning of the wait to the end of the step, summed.
        waiting: Of these, the seconds before the step began.
    """

    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    waiting: float = 0.0


class StepTimer(ABC):
    """Told when the run starts to wait for a batch, when it is there and when its step is over, it adds up steps."""

    @abstractmethod
    def wait(self) -> None:
        """Nothing is left to do but to wait for the next batch; again, if something else came between."""

    @abstractmethod
    def begin(self) -> None:
        """A step's batch is there."""

    @abstractmethod
    def end(self, images: int) -> None:
        """All work of a step with ``images`` images has been given to the device."""

    @abstractmethod
    def read(self) -> Spent:
        """What the steps took that have ended since the last call."""


class HostTimer(StepTimer):
    """The host's clock, for a device that has no queue.

    Args:
        now: Gives seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.spent = Spent()
        self.waits: float | None = None
        self.began = 0.0

    def wait(self) -> None:
        """See :class:`StepTimer`."""
        self.waits = self.now()

    def begin(self) -> None:
        """See :class:`StepTimer`."""
        self.began = self.now()

    def end(self, images: int) -> None:
        """See :class:`StepTimer`."""
        ended = self.now()
        if self.waits is not None:
            spent = self.spent
            self.spent = Spent(
                spent.steps + 1,
                spent.images + images,
                spent.seconds + ended - self.waits,
                spent.waiting + self.began - self.waits,
            )
        self.waits = None

    def read(self) -> Spent:
        """See :class:`StepTimer`."""
        spent, self.spent = self.spent, Spent()
        return spent


@dataclass
class _Step:
    waits: Any
    began: Any
    ended: Any
    images: int


class DeviceTimer(StepTimer):
    """Events in the device's own queue: what it did, not when the host asked for it.

    The host is usually some steps ahead. Then the device reaches a step's beginning right after the end of the one
    before, however long the host waited for the batch: it never went without work. Nothing here waits for the device:
    steps that it has not finished are told of at the next reading.

    Args:
        event: Makes an event with the methods of ``torch.cuda.Event``.
    """

    def __init__(self, event: Callable[[], Any] | None = None) -> None:
        self.event = event or _cuda_event
        self.steps: deque[_Step] = deque(maxlen=_MOST_STEPS)
        self.waits: Any = None
        self.began: Any = None

    def wait(self) -> None:
        """See :class:`StepTimer`."""
        self.waits = self._recorded()

    def begin(self) -> None:
        """See :class:`StepTimer`."""
        self.began = self._recorded()

    def end(self, images: int) -> None:
        """See :class:`StepTimer`."""
        ended = self._recorded()
        if self.waits is not None:
            self.steps.append(_Step(self.waits, self.began, ended, images))
        self.waits = None

    def read(self) -> Spent:
        """See :class:`StepTimer`."""
        steps = images = 0
        milliseconds = waiting = 0.0
        while self.steps and self.steps[0].ended.query():
            step = self.steps.popleft()
            steps += 1
            images += step.images
            milliseconds += step.waits.elapsed_time(step.ended)
            waiting += step.waits.elapsed_time(step.began)
        return Spent(steps, images, milliseconds / 1e3, waiting / 1e3)

    def _recorded(self) -> Any:
        event = self.event()
        event.record()
        return event


def _cuda_event() -> Any:
    return torch.cuda.Event(enable_timing=True)
