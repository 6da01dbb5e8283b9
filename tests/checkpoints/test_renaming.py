"""Tables that read in both directions."""

from __future__ import annotations

import torch

from proteus.checkpoints.renaming import rows, to_ours, to_theirs

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


def test_parts_are_stacked_in_the_tables_order_and_axes_are_added() -> None:
    ours = to_ours(state(), TABLE)
    assert set(ours) == {"blocks.3.qk.weight", "cls_token", "other"}
    assert ours["blocks.3.qk.weight"][:, 0].tolist() == [0, 0, 1, 1]
    assert ours["cls_token"].shape == (1, 1, 4)


def test_the_way_back_gives_the_same_and_parts_of_their_own_memory() -> None:
    back = to_theirs(to_ours(state(), TABLE), TABLE)
    assert set(back) == set(state())
    assert all(torch.equal(back[key], value) for key, value in state().items())
    assert (
        back["layer.3.q.weight"].untyped_storage().data_ptr() != back["layer.3.k.weight"].untyped_storage().data_ptr()
    )


def test_a_part_alone_and_a_name_that_only_looks_alike_stay() -> None:
    incomplete = {"layer.3.q.weight": torch.zeros(2, 2), "xlayer.3.q.bias": torch.zeros(2), "token2": torch.zeros(1)}
    assert set(to_ours(incomplete, TABLE)) == set(incomplete)
