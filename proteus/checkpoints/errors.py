"""Errors for weight files that cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from proteus.structures import UserError
from proteus.utils.text import printable


class CheckpointError(UserError):
    """A weight file that is missing, unreadable, unsafe, or made for another model.

    The message may quote text from the file, so control characters are escaped.
    """

    def __init__(self, message: str) -> None:
        # Messages that list weights indent their further lines; any other newline is part of a name.
        super().__init__("\n  ".join(map(printable, message.split("\n  "))))


class DamagedFileError(CheckpointError):
    """A file that is truncated, corrupted, or not a weight file at all."""


@contextmanager
def prefix_checkpoint_errors(key: str, separator: str = ": ") -> Iterator[None]:
    """Start the message of each ``CheckpointError`` with the config key of the file.

    Args:
        key: The key, or the part of it that comes before a key in the message.
        separator: Text between the key and the message; ``"."`` continues the key.
    """
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{key}{separator}{error}") from error


def shown(value: Any) -> str:
    """Format a value from a file for an error message, shortened."""
    try:
        return printable(repr(value), 60)
    except Exception:  # a value nested deeper than Python can print
        return f"a {type(value).__name__}"


def first_sentence(error: BaseException) -> str:
    """Return the type and the first sentence of a library's error, on one line."""
    text = " ".join(str(error).split()).partition(". ")[0]
    return f"{type(error).__name__}: {printable(text, 200)}" if text else type(error).__name__
