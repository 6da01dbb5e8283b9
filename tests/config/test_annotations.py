from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional, Union

import pytest
from torch import nn

from proteus.config.annotations import Hint, not_expected, shown, wrong_type


@pytest.mark.parametrize(
    ("annotation", "right", "wrong"),
    [
        (int, [0, -3], [1.0, "1", True, None, [1]]),
        (float, [0, 1.5, math.inf], ["1", True, None, math.nan, [1.0]]),
        (bool, [True, False], [1, 0, "True", None]),
        (str, ["", "a", Path("a")], [1, None, True, ["a"]]),
        (Path, ["a", Path("a")], [1, None]),
        (Optional[int], [None, 1], ["1", 1.5]),  # noqa: UP045
        (Union[int, Sequence[int]], [1, [1, 2], (1,)], ["1", [1.5], {"a": 1}, None]),  # noqa: UP007
        (Sequence[float], [[], (1, 2.5)], [1.0, "12", [None], ["1"], None]),
        (tuple[int, int], [(1, 2), [1, 2]], [(1,), (1, 2, 3), (1, "2"), 1]),
        (tuple[int, ...], [(), (1, 2, 3)], [("1",), 1]),
        (Mapping[str, float], [{}, {"a": 1}], [1, "a", {"a": "b"}, [1]]),
        (dict, [{"a": 1}], [1, "a", [1]]),
        (Literal["a", 1], ["a", 1], ["b", True, None, 1.0]),
        (numbers.Number, [1, 2.5], ["a", True]),
        (nn.Module, [{"type": "Linear"}, "name", None], [1, True, 0.5]),
        (Any, [1, "a", None, {}], []),
        ("int | None", [1, None], ["a"]),
        ("NotThere | None", [1, "a"], []),
    ],
    ids=str,
)
def test_values_that_fit_an_annotation(annotation: Any, right: list[Any], wrong: list[Any]) -> None:
    hint = Hint(annotation, ..., {})
    assert [value for value in right if wrong_type(value, hint) is not None] == []
    assert [value for value in wrong if wrong_type(value, hint) is None] == []


def test_a_default_is_valid_whatever_its_annotation() -> None:
    assert wrong_type(None, Hint(int, None)) is None
    assert wrong_type("auto", Hint(int, "auto")) is None
    assert wrong_type(True, Hint(int, 1)) is not None


def test_loose_annotations_of_other_packages() -> None:
    assert wrong_type("x", Hint(int), strict=False) == "found 'x', expected an integer"
    assert wrong_type(5, Hint(Sequence[int]), strict=False) is not None
    assert wrong_type(5, Hint(dict), strict=False) is not None
    assert wrong_type(1, Hint(bool), strict=False) is not None
    assert wrong_type([{"type": "FCNHead"}], Hint(dict), strict=False) is None
    assert wrong_type(0.5, Hint(int), strict=False) is None
    assert wrong_type(512.0, Hint(str), strict=False) is None


@pytest.mark.parametrize(
    ("value", "expected", "text"),
    [
        (1000.0, "a positive integer", "found 1000.0, expected a positive integer; write 1000"),
        (1000.5, "a positive integer", "found 1000.5, expected a positive integer"),
        (math.inf, "an integer", "found inf, expected an integer"),
        ("1e-3", "a number", "found '1e-3', expected a number; write 1e-3 without quotes"),
        ("fast", "a number", "found 'fast', expected a number"),
        ("false", "True or False", "found 'false', expected True or False; write False without quotes"),
        (2**40, "a positive integer", "found 1099511627776, expected a positive integer below 2**31"),
        ({"a": 1, "b": 2}, "a number", "found a dict (a, b), expected a number"),
    ],
)
def test_messages(value: Any, expected: str, text: str) -> None:
    assert not_expected(value, expected) == text


def test_long_values_are_shortened() -> None:
    assert len(shown(list(range(2000)))) == 60
    assert "\n" not in shown("a\nb")
