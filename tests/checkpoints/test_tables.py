"""The tables themselves."""

from __future__ import annotations

import pytest

from proteus.checkpoints import tables
from proteus.checkpoints.keys import FORMS
from proteus.checkpoints.renaming import Row

ALL = {name: table for name, table in vars(tables).items() if isinstance(table, tuple) and name.isupper()}


@pytest.mark.parametrize("name", ALL)
def test_no_name_stands_twice_and_placeholders_agree(name: str) -> None:
    theirs = [part for row in ALL[name] for part in row.theirs]
    ours = [row.ours for row in ALL[name]]
    assert len(set(theirs)) == len(theirs)
    assert len(set(ours)) == len(ours)
    for row in ALL[name]:
        assert isinstance(row, Row)
        for mark in ("{i}", "{w}"):
            assert all((mark in part) == (mark in row.ours) for part in row.theirs), row


def test_every_table_is_used_by_a_form() -> None:
    used = {row for form in FORMS for row in form.table}
    assert {name for name, table in ALL.items() if not set(table) <= used} == set()
