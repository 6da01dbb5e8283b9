from typing import Any

import pytest

from proteus.checkpoints.errors import CheckpointError, DamagedFileError, first_sentence, printable, shown
from proteus.structures import UserError


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("ü 漢", None, "ü 漢"),
        ("\x1b[2J\n", None, r"\x1b[2J\n"),
        ("\u202ea", None, r"\u202ea"),
        ("\udce4", None, r"\udce4"),
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abc..."),
    ],
)
def test_printable(text: str, limit: int | None, expected: str) -> None:
    assert printable(text, limit) == expected


def test_messages_are_escaped_and_keep_their_lists() -> None:
    assert str(CheckpointError("a\nb: missing\n  w\n  \x1bv")) == "a\\nb: missing\n  w\n  \\x1bv"
    assert issubclass(DamagedFileError, CheckpointError)
    assert issubclass(CheckpointError, UserError)


def test_values_are_shortened() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    assert shown(nested) == "a list"
    assert shown("x" * 100) == f"'{'x' * 56}..."
    assert shown(None) == "None"


def test_first_sentence() -> None:
    assert first_sentence(ValueError("bad\n header. More")) == "ValueError: bad header"
    assert first_sentence(ValueError()) == "ValueError"
    assert len(first_sentence(ValueError("x" * 1000))) == len("ValueError: ") + 200
