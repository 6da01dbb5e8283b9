"""Checks of constructor arguments; errors are one line with the name of the argument."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any


def check_whole(name: str, value: Any, least: int = 1) -> int:
    """Check a whole number.

    Args:
        name: Name of the argument.
        value: The value; ``True`` and ``8.0`` are refused.
        least: Smallest allowed number.

    Returns:
        The number as an ``int``.

    Raises:
        ValueError: The value is not a whole number, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name}={value!r}: write a whole number, {least} or more")
    return int(value)


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, above: bool = False) -> float:
    """Check a finite number.

    Args:
        name: Name of the argument.
        value: The value.
        low: Smallest allowed number.
        high: Largest allowed number.
        above: Whether ``low`` itself is refused.

    Returns:
        The number.

    Raises:
        ValueError: The value is not a number, not finite, or out of range.
    """
    fits = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or not low <= value <= high or (above and value == low):
        first = f"above {low:g}" if above else f"from {low:g}"
        span = {
            (True, True): "",
            (False, True): f" {first}" if above else f", {low:g} or more",
            (True, False): f", {high:g} or less",
            (False, False): f" {first} to {high:g}",
        }[math.isinf(low), math.isinf(high)]
        raise ValueError(f"{name}={value!r}: write a number{span}")
    return value


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Check that a value is one of a few.

    Raises:
        ValueError: The value is not one of them.
    """
    if isinstance(value, (list, dict, set)) or value not in choices:
        raise ValueError(f"{name}={value!r}: choose from: {', '.join(map(repr, choices))}")


def check_channels(name: str, values: Any, positive: bool = False) -> tuple[float, float, float]:
    """Check a mean or a standard deviation of R, G and B.

    Args:
        name: Name of the argument.
        values: The values.
        positive: Whether 0 and negative numbers are refused.

    Returns:
        The three numbers.

    Raises:
        ValueError: It is not a list of three numbers from 0 to 1, or one is not positive.
    """
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != 3:
        raise ValueError(f"{name}={values!r}: write three numbers, one for each of R, G and B, of [0, 1]")
    for value in values:
        check_number(name, value, 0, 1, above=positive)
    red, green, blue = values
    return red, green, blue


def check_side(name: str, value: Any) -> int:
    """Check a side in pixels, which OpenMMLab's configs may give twice, as ``(224, 224)``.

    Returns:
        The side.

    Raises:
        ValueError: The value is not a whole number above 0, or height and width differ.
    """
    if isinstance(value, (list, tuple)):
        if len(value) != 2 or value[0] != value[1]:
            raise ValueError(f"{name}={value!r}: write one side in pixels, such as {name}=224")
        value = value[0]
    return check_whole(name, value)
