"""Which process holds which teacher; what they exchange is tested with the distiller."""

from __future__ import annotations

import pytest

from proteus.models.teachers.spread import SpreadPlan


@pytest.mark.parametrize(
    ("sizes", "world", "processes", "holders"),
    [
        ({"a": 1, "b": 2}, 2, 2, {"a": 1, "b": 0}),
        ({"a": 1, "b": 2}, 8, 2, {"a": 1, "b": 0}),
        ({"a": 3, "b": 2, "c": 2}, 2, 2, {"a": 0, "b": 1, "c": 1}),
        ({"a": 1, "b": 9, "c": 2, "d": 3}, 2, 2, {"a": 1, "b": 0, "c": 1, "d": 1}),
        ({"a": 1, "b": 1, "c": 1}, 8, 4, {"a": 0, "b": 1, "c": 2}),  # 3 does not divide 8
        ({"a": 1, "b": 1}, 3, 3, {"a": 0, "b": 1}),
    ],
)
def test_teachers_are_placed_by_size(
    sizes: dict[str, int], world: int, processes: int, holders: dict[str, int]
) -> None:
    plan = SpreadPlan.of(sizes, world)
    assert (plan.processes, plan.holders) == (processes, holders)
    assert list(plan.holders) == list(sizes)


def test_the_plan_in_words() -> None:
    plan = SpreadPlan.of({"dinov2": 304_368_640, "siglip2": 316_000_000, "small": 22_000_000}, 8)
    assert plan.describe() == (
        "in each group of 4 processes, process 0 holds siglip2 (316.00 M parameters), process 1 holds dinov2 (304.37 M "
        "parameters), process 2 holds small (22.00 M parameters), process 3 holds no teacher"
    )
    assert plan.largest == 316_000_000
    assert SpreadPlan.of({"a": 5, "b": 3, "c": 3}, 2).largest == 6
