"""Both clocks on a time that the test makes."""

from typing import Any

import pytest

from proteus.engine.hooks.step_timer import DeviceTimer, HostTimer, Spent


def test_host_clock_leaves_out_what_lies_between() -> None:
    times = iter([0.0, 1.0, 3.0, 10.0, 14.0, 15.0])
    clock = HostTimer(lambda: next(times))
    for _ in range(2):
        clock.wait()
        clock.begin()
        clock.end(8)
    # Waited 0 to 1 and 10 to 14; worked 1 to 3 and 14 to 15.
    assert clock.read() == Spent(2, 16, 8.0, 5.0)
    assert clock.read() == Spent()


def test_a_step_without_a_beginning_of_its_wait() -> None:
    clock = HostTimer(iter([1.0, 2.0]).__next__)
    clock.begin()
    clock.end(8)
    assert clock.read() == Spent()


class Queue:
    """A device that reaches events at times of the test's choice, in the order in which they were recorded."""

    def __init__(self, milliseconds: list[float]) -> None:
        self.milliseconds = milliseconds
        self.recorded: list[Any] = []
        self.reached = 0

    def event(self) -> Any:
        queue = self

        class Event:
            def record(self) -> None:
                self.number = len(queue.recorded)
                queue.recorded.append(self)

            def query(self) -> bool:
                return self.number < queue.reached

            def elapsed_time(self, other: Any) -> float:
                assert self.query(), "read before it was reached"
                assert other.query(), "read before it was reached"
                return queue.milliseconds[other.number] - queue.milliseconds[self.number]

        return Event()


def test_device_clock_reads_what_is_over() -> None:
    # Events: wait, begin, end of three steps. The second step's batch came 500 ms late, the third's in time.
    queue = Queue([0, 100, 1100, 1100, 1600, 2600, 2600, 2600, 3600])
    clock = DeviceTimer(queue.event)
    for images in (8, 8, 4):
        clock.wait()
        clock.begin()
        clock.end(images)
    assert clock.read() == Spent()  # the host is ahead: nothing is over, and nobody waits for it
    queue.reached = 8
    spent = clock.read()
    assert spent[:2] == (2, 16)
    assert spent.seconds == pytest.approx(2.6)
    assert spent.waiting == pytest.approx(0.6)
    queue.reached = 9
    assert clock.read() == Spent(1, 4, 1.0, 0.0)
