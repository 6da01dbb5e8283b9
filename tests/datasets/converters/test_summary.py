"""What a converter says."""

from __future__ import annotations

from pathlib import Path

from proteus.datasets.converters.archive import Done
from proteus.datasets.converters.summary import told

OUT = Path("out")


def test_a_conversion_counts_and_a_check_finds() -> None:
    done = Done(written=1200, kept=3)
    assert told("ADE20K", OUT, done, [], check=False) == "ADE20K: 1,200 files written, 3 were there, in out"
    assert told("ADE20K", OUT, done, [], check=True) == "ADE20K: out is complete"


def test_of_many_problems_the_first_ten_are_told_and_all_are_counted() -> None:
    lines = told("NYU", OUT, Done(0, 0), [f"p{number}" for number in range(12)], check=True).splitlines()
    assert lines[:10] == [f"p{number}" for number in range(10)]
    assert lines[10] == "... and 2 more"
    assert lines[11].startswith("NYU: 12 files of out are missing or differ")
