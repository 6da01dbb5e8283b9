"""Ranges of values, with descriptions for error messages; the table of keys is ``range_table``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mmengine.logging import HistoryBuffer


@dataclass(frozen=True)
class Range:
    """A set of allowed values.

    Attributes:
        expected: Description that follows ``expected`` in a message.
        accepts: Returns whether a value is in the set.
    """

    expected: str
    accepts: Callable[[Any], bool]

    def __or__(self, other: Range) -> Range:
        return Range(f"{self.expected} or {other.expected}", lambda value: self.accepts(value) or other.accepts(value))


def integer(least: int = 0, most: int | None = None) -> Range:
    """Return a range of integers, by default up to 2**31 - 1."""
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
    """Return a range of numbers; ``least`` and ``most`` are inclusive, ``above`` and ``below`` exclusive."""
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
    """Return a range of listed values."""
    return Range(f"one of {', '.join(map(repr, values))}", lambda v: any(type(v) is type(o) and v == o for o in values))


def several(rule: Range, count: int | None = None, name: str = "", increasing: bool = False) -> Range:
    """Return a range of lists with all values in ``rule``."""
    plural = name or f"values that are each {rule.expected}"
    text = f"a list of {f'{count} ' if count else ''}{'increasing ' if increasing else ''}{plural}"
    return Range(
        text,
        lambda v: (
            isinstance(v, (list, tuple, range))
            and len(v) == (count or max(len(v), 1))
            and all(map(rule.accepts, v if not isinstance(v, range) else (v[0], v[-1])))
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


def file_name(suffix: str) -> Range:
    """Return a range of file names without a folder."""
    return Range(
        f"a file name that ends in {suffix}", lambda v: isinstance(v, str) and v.endswith(suffix) and "/" not in v
    )


def are_numbers(*values: Any) -> bool:
    """Whether all values are numbers; bools do not count."""
    return all(map(_is_number, values))


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_log_rule(value: Any) -> bool:
    """Whether an entry of ``LogProcessor.custom_cfg`` names a known statistic and window."""
    if not isinstance(value, Mapping) or not isinstance(value.get("data_src"), str):
        return False
    window = value.get("window_size", 1)
    return value.get("method_name", "mean") in HistoryBuffer()._statistics_methods and (
        COUNT.accepts(window) or window in ("epoch", "global")
    )


def _is_local(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("backend", "local") in ("local", "LocalBackend", "disk")


def _numbers_checkpoints(value: Any) -> bool:
    """Whether a template gives each checkpoint a different name, with the suffix that resuming looks for."""
    try:
        return value.endswith(".pth") and "/" not in value and value.format(1) != value.format(2)
    except (AttributeError, LookupError, ValueError, TypeError):
        return False


COUNT, NATURAL = integer(1), integer(0)
POSITIVE, NON_NEGATIVE, FINITE = number(above=0), number(least=0), number()
SHARE, PART = number(0, 1), number(least=0, below=1)
SWITCH = Range("True or False", lambda v: isinstance(v, bool))
NONE = Range("None", lambda v: v is None)
TEXT = Range("a string", lambda v: isinstance(v, str))
COUNTS = several(COUNT, name="positive integers")
SIZE = COUNT | several(COUNT, 2, "positive integers")
DICT = Range("a dict", lambda v: isinstance(v, Mapping))
LIST_OF_DICTS = Range("a list of dicts", lambda v: isinstance(v, (list, tuple)) and all(map(DICT.accepts, v)))
DICTS = DICT | LIST_OF_DICTS
LOCAL = Range("dict(backend='local'): checkpoints are written to this machine", _is_local)
CHECKPOINT_NAMES = Range("a file name such as 'iter_{}.pth', where {} is the iteration", _numbers_checkpoints)
LOG_RULES = Range(
    f"a list of dicts with data_src, method_name ({', '.join(map(repr, HistoryBuffer()._statistics_methods))}) and "
    "window_size (a positive integer, 'epoch' or 'global')",
    lambda v: isinstance(v, (list, tuple)) and all(map(_is_log_rule, v)),
)
