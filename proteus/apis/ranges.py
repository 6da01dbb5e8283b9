"""Ranges of values and their descriptions for error messages."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Range:
    """A set of allowed values.

    Attributes:
        expected: The end of ``expected ...`` in a message.
        accepts: Whether a value is right.
    """

    expected: str
    accepts: Callable[[Any], bool]

    def __or__(self, other: Range) -> Range:
        return Range(f"{self.expected} or {other.expected}", lambda value: self.accepts(value) or other.accepts(value))


def integer(least: int = 0, most: int | None = None) -> Range:
    """Make the range of an integer; without ``most`` it fits in 32 bits, as counters do."""
    if most is not None:
        text = f"an integer from {least} to {most}"
    else:
        text = {0: "a non-negative integer", 1: "a positive integer"}.get(least, f"an integer of at least {least}")
    return Range(text, lambda v: _is_int(v) and v >= least and v <= (2**31 - 1 if most is None else most))


def number(
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    infinite: bool = False,
) -> Range:
    """Make the range of a number; ``least`` and ``most`` belong to it, ``above`` and ``below`` do not."""
    if (least, most) == (0.0, 1.0):
        text = "a number from 0 to 1"
    elif above == 0 and math.isinf(below) and math.isinf(most):
        text = "a positive number"
    elif least == 0 and math.isinf(most) and math.isinf(below):
        text = "a non-negative number"
    elif all(map(math.isinf, (least, most, above, below))):
        text = "a finite number"
    else:
        low = f"above {above:g}" if above > -math.inf else f"of at least {least:g}" if least > -math.inf else ""
        high = f"below {below:g}" if below < math.inf else f"of at most {most:g}" if most < math.inf else ""
        text = f"a number {' and '.join(filter(None, [low, high]))}"
    return Range(
        text,
        lambda v: (
            _is_number(v)
            and not math.isnan(v)
            and (infinite or not math.isinf(v))
            and least <= v <= most
            and (v > above or above == -math.inf)
            and (v < below or below == math.inf)
        ),
    )


def choice(*values: Any) -> Range:
    """Make a range of a few values."""
    return Range(f"one of {', '.join(map(repr, values))}", lambda v: any(type(v) is type(o) and v == o for o in values))


def several(rule: Range, count: int | None = None, name: str = "", increasing: bool = False) -> Range:
    """Make the range of a list with all values in ``rule``."""
    plural = name or f"values that are each {rule.expected}"
    text = f"a list of {f'{count} ' if count else ''}{'increasing ' if increasing else ''}{plural}"
    return Range(
        text,
        lambda v: (
            isinstance(v, (list, tuple))
            and len(v) == (count or max(len(v), 1))
            and all(map(rule.accepts, v))
            and (not increasing or all(a < b for a, b in pairwise(v)))
        ),
    )


def compiles(pattern: str) -> bool:
    """Whether a string is a valid regular expression."""
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


COUNT, NATURAL = integer(1), integer(0)
POSITIVE, NON_NEGATIVE, FINITE = number(above=0), number(least=0), number()
SHARE, PART = number(0, 1), number(least=0, below=1)
SWITCH = Range("True or False", lambda v: isinstance(v, bool))
NONE = Range("None", lambda v: v is None)
TEXT = Range("a text", lambda v: isinstance(v, str))
COUNTS = several(COUNT, name="positive integers")
SIZE = COUNT | several(COUNT, 2, "positive integers")
