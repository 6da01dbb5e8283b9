"""The error of every weight file that cannot be used."""

from __future__ import annotations

from typing import Any

from proteus.structures import UserError


class CheckpointError(UserError):
    """A weight file that is missing, unreadable, unsafe, or made for another model.

    Text of a file may be part of the message: control characters in it, which a terminal would obey, are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(map(printable, message.split("\n"))))


def printable(text: str, limit: int | None = None) -> str:
    r"""Escape what a terminal obeys rather than shows: ``\x1b[2J``, newlines, marks that turn the reading direction.

    Args:
        text: Any text.
        limit: Cut to so many characters.
    """
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )
    return shown if limit is None or len(shown) <= limit else f"{shown[: limit - 3]}..."


def shown(value: Any) -> str:
    """Show a value of a file in an error message, shortened."""
    try:
        return printable(repr(value), 60)
    except Exception:  # a value nested deeper than Python can print
        return f"a {type(value).__name__}"
