"""Renaming weights by tables that read in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """One weight, or one of every block, in another project's names and in timm's.

    In both, ``{i}`` stands for the number of a block and ``{w}`` for ``weight`` or ``bias``.

    Attributes:
        theirs: The other project's name; several where timm keeps in one tensor what they keep in parts, in the order
            in which timm stacks them.
        ours: timm's name.
        axes: How many leading axes of length 1 timm's tensor has more than theirs.
    """

    theirs: tuple[str, ...]
    ours: str
    axes: int = 0

    @cached_property
    def first_of_theirs(self) -> re.Pattern[str]:
        """Matches the first of their names."""
        return _pattern(self.theirs[0])

    @cached_property
    def of_ours(self) -> re.Pattern[str]:
        """Matches our name."""
        return _pattern(self.ours)


def rows(text: str) -> tuple[Row, ...]:
    """Read a table: on each line their name or names, timm's name, and ``+n`` for ``n`` axes."""
    table = []
    for line in filter(None, map(str.strip, text.splitlines())):
        names = line.split()
        axes = int(names.pop()) if names[-1].startswith("+") else 0
        table.append(Row(tuple(names[:-1]), names[-1], axes))
    return tuple(table)


def to_ours(state: Mapping[str, Tensor], table: Iterable[Row]) -> dict[str, Tensor]:
    """Rename to timm's names; what the table does not know, or knows only in part, stays as it is."""
    table, left, renamed = tuple(table), dict(state), {}
    for key in state:
        row, match = next(
            ((row, found) for row in table if (found := row.first_of_theirs.fullmatch(key))), (None, None)
        )
        if row is None or match is None:
            continue
        names = [name.format(**match.groupdict()) for name in row.theirs]
        if all(name in left for name in names):
            parts = [left.pop(name) for name in names]
            value = parts[0] if len(parts) == 1 else torch.cat(parts)
            renamed[row.ours.format(**match.groupdict())] = value[(None,) * row.axes]
    return {**renamed, **left}


def to_theirs(state: Mapping[str, Tensor], table: Iterable[Row]) -> dict[str, Tensor]:
    """Rename timm's names to theirs; what the table does not know stays as it is."""
    table, renamed = tuple(table), {}
    for key, value in state.items():
        row, match = next(((row, found) for row in table if (found := row.of_ours.fullmatch(key))), (None, None))
        if row is None or match is None:
            renamed[key] = value
            continue
        for _ in range(row.axes):
            value = value.squeeze(0)
        names = [name.format(**match.groupdict()) for name in row.theirs]
        # Copies: parts of one memory cannot be saved as safetensors.
        parts = [value] if len(names) == 1 else [part.clone() for part in value.chunk(len(names))]
        renamed.update(zip(names, parts, strict=True))
    return renamed


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\{w\}", "(?P<w>weight|bias)")
    return re.compile(escaped)
