import math

import pytest

from proteus.config.ranges import (
    COUNT,
    COUNTS,
    NONE,
    PART,
    POSITIVE,
    SHARE,
    SIZE,
    Range,
    choice,
    integer,
    number,
    several,
)


@pytest.mark.parametrize(
    ("rule", "expected", "right", "wrong"),
    [
        (COUNT, "a positive integer", [1, 2**31 - 1], [0, -1, 1.0, True, "1", None, 2**31]),
        (integer(0, 100), "an integer from 0 to 100", [0, 100], [-1, 101]),
        (integer(2), "an integer of at least 2", [2], [1]),
        (POSITIVE, "a positive number", [1, 1e-9], [0, -1, math.nan, math.inf, True, "1"]),
        (number(above=0, infinite=True), "a positive number", [math.inf], [0, math.nan, -math.inf]),
        (SHARE, "a number from 0 to 1", [0, 1, 0.5], [-0.1, 1.1, math.nan]),
        (PART, "a number of at least 0 and below 1", [0, 0.99], [1, 1.0, -1]),
        (number(above=0, below=1), "a number above 0 and below 1", [0.5], [0, 1]),
        (number(), "a finite number", [-5], [math.inf, math.nan]),
        (choice("a", 1), "one of 'a', 1", ["a", 1], [True, "1", None]),
        (COUNT | NONE, "a positive integer or None", [1, None], [0]),
        (SIZE, "a positive integer or a list of 2 positive integers", [1, (2, 3)], [(1,), (1, 2, 3), (0, 1)]),
        (COUNTS, "a list of positive integers", [[1], (1, 2)], [[], 1, [0], "12"]),
        (several(COUNT), "a list of values that are each a positive integer", [range(1, 9, 2)], [range(3), range(0)]),
        (several(COUNT, increasing=True), "a list of increasing values", [[1, 2]], [[2, 1], [1, 1]]),
    ],
)
def test_ranges(rule: Range, expected: str, right: list, wrong: list) -> None:
    assert rule.expected.startswith(expected)
    assert [value for value in right if not rule.accepts(value)] == []
    assert [value for value in wrong if rule.accepts(value)] == []
