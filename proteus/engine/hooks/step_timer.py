"""Timers of training steps and of the wait for data, on the host or on the device."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

# Largest number of steps with unread events.
_MAX_STEPS = 10_000


class Spent(NamedTuple):
    """Time of several steps.

    Attributes:
        steps: Number of steps.
        images: Number of images in them.
        seconds: Sum of the times from the start of the wait to the end of the step.
        waiting: The part of ``seconds`` before the steps began.
    """

    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    waiting: float = 0.0


class StepTimer(ABC):
    """Accumulate step and data-wait times."""

    @abstractmethod
    def wait(self) -> None:
        """Start waiting for a batch; call again after anything else in between."""

    @abstractmethod
    def begin(self) -> None:
        """Begin a step with its batch."""

    @abstractmethod
    def end(self, images: int) -> None:
        """End a step of ``images`` images: all its work was submitted to the device."""

    @abstractmethod
    def read(self) -> Spent:
        """Return the time of the steps that have finished since the last call."""


class HostTimer(StepTimer):
    """Timer with the host's clock, for devices without a queue.

    Args:
        now: Returns seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.spent = Spent()
        self.wait_start: float | None = None
        self.step_start = 0.0

    def wait(self) -> None:
        """See :class:`StepTimer`."""
        self.wait_start = self.now()

    def begin(self) -> None:
        """See :class:`StepTimer`."""
        self.step_start = self.now()

    def end(self, images: int) -> None:
        """See :class:`StepTimer`."""
        end = self.now()
        if self.wait_start is not None:
            spent = self.spent
            self.spent = Spent(
                spent.steps + 1,
                spent.images + images,
                spent.seconds + end - self.wait_start,
                spent.waiting + self.step_start - self.wait_start,
            )
        self.wait_start = None

    def read(self) -> Spent:
        """See :class:`StepTimer`."""
        spent, self.spent = self.spent, Spent()
        return spent


@dataclass
class _Step:
    wait_start: Any
    step_start: Any
    end: Any
    images: int


class DeviceTimer(StepTimer):
    """Timer with events in the device's queue, which measure the device's work, not the host's calls.

    The host is usually some steps ahead. The device then reaches the beginning of a step right after the end of the
    previous one, however long the host waited for the batch: it was never idle. Nothing here waits for the device:
    unfinished steps are counted at the next reading.

    Args:
        event: Creates an event with the methods of ``torch.cuda.Event``.
    """

    def __init__(self, event: Callable[[], Any] | None = None) -> None:
        self.event = event or _cuda_event
        self.steps: deque[_Step] = deque(maxlen=_MAX_STEPS)
        self.wait_start: Any = None
        self.step_start: Any = None

    def wait(self) -> None:
        """See :class:`StepTimer`."""
        self.wait_start = self._record()

    def begin(self) -> None:
        """See :class:`StepTimer`."""
        self.step_start = self._record()

    def end(self, images: int) -> None:
        """See :class:`StepTimer`."""
        end = self._record()
        if self.wait_start is not None:
            self.steps.append(_Step(self.wait_start, self.step_start, end, images))
        self.wait_start = None

    def read(self) -> Spent:
        """See :class:`StepTimer`."""
        steps = images = 0
        milliseconds = waiting = 0.0
        while self.steps and self.steps[0].end.query():
            step = self.steps.popleft()
            steps += 1
            images += step.images
            milliseconds += step.wait_start.elapsed_time(step.end)
            waiting += step.wait_start.elapsed_time(step.step_start)
        return Spent(steps, images, milliseconds / 1e3, waiting / 1e3)

    def _record(self) -> Any:
        event = self.event()
        event.record()
        return event


def _cuda_event() -> Any:
    return torch.cuda.Event(enable_timing=True)
