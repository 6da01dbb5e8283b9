"""Errors that a user can correct."""

from typing import ClassVar


class UserError(ValueError):
    """A mistake in what a run was given: a config, a file, a folder, an option.

    The command line prints the message alone, without a traceback. It names the key or file, what was found, and what
    to write instead.

    Attributes:
        exit_status: Status that the process exits with.
    """

    exit_status: ClassVar[int] = 2


class DataError(UserError):
    """Data that a run was given and cannot use; the message names the file or sample, and what to do about it."""


class CorruptImageError(UserError):
    """An image file that cannot be read to its end, or has pixels of a kind without defined 8-bit values."""


class FullDiskError(UserError):
    """The disk has no room for a file; the message names the file."""


class LockedError(UserError):
    """A folder that another process is writing to; the message names the process."""
