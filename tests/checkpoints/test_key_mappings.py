"""Tables of names, and renaming by them in both directions."""

from __future__ import annotations

import pytest
import torch

from proteus.checkpoints import key_mappings
from proteus.checkpoints.key_mappings import Row, rows, to_ours, to_theirs
from proteus.checkpoints.keys import FORMS

ALL = {name: table for name, table in vars(key_mappings).items() if isinstance(table, tuple) and name.isupper()}
TABLE = rows("""
    layer.{i}.q.{w}  layer.{i}.k.{w}  blocks.{i}.qk.{w}
    token            cls_token  +2
""")


def state() -> dict[str, torch.Tensor]:
    return {
        "layer.3.q.weight": torch.zeros(2, 2),
        "layer.3.k.weight": torch.ones(2, 2),
        "token": torch.arange(4.0),
        "other": torch.ones(1),
    }


def test_parts_are_stacked_in_order_and_axes_are_added() -> None:
    ours = to_ours(state(), TABLE)
    assert set(ours) == {"blocks.3.qk.weight", "cls_token", "other"}
    assert ours["blocks.3.qk.weight"][:, 0].tolist() == [0, 0, 1, 1]
    assert ours["cls_token"].shape == (1, 1, 4)


def test_round_trip_keeps_values_and_does_not_share_memory() -> None:
    back = to_theirs(to_ours(state(), TABLE), TABLE)
    assert set(back) == set(state())
    assert all(torch.equal(back[key], value) for key, value in state().items())
    assert (
        back["layer.3.q.weight"].untyped_storage().data_ptr() != back["layer.3.k.weight"].untyped_storage().data_ptr()
    )


def test_incomplete_parts_and_similar_names_stay() -> None:
    incomplete = {"layer.3.q.weight": torch.zeros(2, 2), "xlayer.3.q.bias": torch.zeros(2), "token2": torch.zeros(1)}
    assert set(to_ours(incomplete, TABLE)) == set(incomplete)


@pytest.mark.parametrize("name", ALL)
def test_names_are_unique_and_placeholders_agree(name: str) -> None:
    theirs = [part for row in ALL[name] for part in row.theirs]
    ours = [row.ours for row in ALL[name]]
    assert len(set(theirs)) == len(theirs)
    assert len(set(ours)) == len(ours)
    for row in ALL[name]:
        assert isinstance(row, Row)
        for mark in ("{i}", "{w}"):
            assert all((mark in part) == (mark in row.ours) for part in row.theirs), row


def test_every_table_belongs_to_a_naming_scheme() -> None:
    used = {row for form in FORMS for row in form.table}
    assert {name for name, table in ALL.items() if not set(table) <= used} == set()
