"""The check of discouraged words finds them in prose and names, and leaves ordinary English alone."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / ".ci/check_prose.py"
SPEC = importlib.util.spec_from_file_location("check_prose", FILE)
assert SPEC is not None
assert SPEC.loader is not None
check_prose = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check_prose)


# Written in two parts, so that the check does not find them in this file.
@pytest.mark.parametrize(
    "words", ["to" + "ld", "wh" + "ose", "is " + "no", "of its" + " own", "go" + "es on", "jud" + "ging"]
)
@pytest.mark.parametrize("text", ["# The file {} x", "def test_a_{}_b() -> None:", '"""{}."""'])
def test_found_in_comments_docstrings_and_names(words: str, text: str) -> None:
    line = text.format(words.replace(" ", "_") if "def " in text else words)
    [(number, found, advice)] = check_prose.problems(f"x = 1\n{line}\n")
    assert number == 2
    assert found.replace("_", " ") == words
    assert advice


@pytest.mark.parametrize("text", ["there is no file", "x is None", "is no longer used", "retold stories", "own images"])
def test_ordinary_english_passes(text: str) -> None:
    assert check_prose.problems(text) == []
