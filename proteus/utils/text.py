"""Text from files and file names, made printable."""

from __future__ import annotations


def printable(text: str, limit: int | None = None) -> str:
    r"""Escape control characters: ``\x1b[2J``, newlines, marks that change the reading direction.

    Bytes of names that are not UTF-8 become ``\udce9``.

    Args:
        text: Any text.
        limit: Maximum number of characters; longer text is cut.
    """
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )
    return shown if limit is None or len(shown) <= limit else f"{shown[: limit - 3]}..."
