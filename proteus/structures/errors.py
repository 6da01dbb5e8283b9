"""Errors that a user can correct."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class UserError(ValueError):
    """A mistake in what a run was given: a config, a file, a folder, an option.

    The command line prints the message alone, without a traceback. It names the key or file, what was found, and what
    to write instead.

    Attributes:
        exit_status: Status that the process exits with.
    """

    exit_status: ClassVar[int] = 2


class ConfigError(UserError):
    """A config that cannot be run as it is.

    Args:
        problems: One line each: the dotted key, what was found, and what to write instead.
        source: Name of the config file, which the message begins with.

    Attributes:
        problems: The lines.
    """

    def __init__(self, problems: Iterable[str], source: str = "config") -> None:
        self.problems = [" ".join(problem.splitlines()) for problem in problems]
        if len(self.problems) == 1:
            super().__init__(f"{source}: {self.problems[0]}")
        else:
            super().__init__(
                "\n".join([f"{source}: {len(self.problems)} problems", *(f"  {problem}" for problem in self.problems)])
            )


class DataError(UserError):
    """Data that a run was given and cannot use; the message names the file or sample, and what to do about it."""


class CorruptImageError(UserError):
    """An image file that cannot be read to its end, or has pixels of a kind without defined 8-bit values."""


class FullDiskError(UserError):
    """The disk has no room for a file; the message names the file."""


class LockedError(UserError):
    """A folder that another process is writing to; the message names the process."""
