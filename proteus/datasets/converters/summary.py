"""What a converter says at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from proteus.datasets.converters.archive import Done

_MOST = 10


def told(title: str, target: Path, done: Done, problems: Sequence[str], check: bool) -> str:
    """Say what was written, or what a check found.

    Args:
        title: What to call the data set.
        target: Its folder.
        done: Files written, and files that were there.
        problems: What a check found wrong.
        check: Whether this was a check.

    Returns:
        One line, or one for each of the first problems and one for their number.
    """
    if not check:
        return f"{title}: {done.written:,} files written, {done.kept:,} were there, in {target}"
    if not problems:
        return f"{title}: {target} is complete"
    more = [f"... and {len(problems) - _MOST:,} more"] if problems[_MOST:] else []
    remedy = f"{title}: {len(problems):,} files of {target} are missing or differ; convert again without --check"
    return "\n".join([*problems[:_MOST], *more, remedy + " (remove first those that differ)"])
