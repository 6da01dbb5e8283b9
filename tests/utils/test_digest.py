"""Digests of weights."""

from __future__ import annotations

import hashlib

import torch

from proteus.utils.digest import weights_digest


def test_digest_depends_on_names_types_shapes_and_values_but_not_on_order() -> None:
    state = {"a": torch.tensor([[1.0, 2.0]]), "b": torch.ones(2, dtype=torch.bfloat16)}
    digest = weights_digest(state)
    assert digest == weights_digest(dict(reversed(state.items())))
    others = [
        {"a": state["a"], "c": state["b"]},
        {**state, "b": torch.ones(2, dtype=torch.float16)},
        {**state, "a": state["a"].flatten()},
        {**state, "a": torch.tensor([[1.0, 3.0]])},
    ]
    assert len({digest, weights_digest(state, "vit"), *map(weights_digest, others)}) == 6


def test_digest_is_stable_between_versions() -> None:
    """Caches on disk are recognised by it."""
    expected = hashlib.sha256(b"vita torch.float32 (2,)" + bytes([0, 0, 128, 63, 0, 0, 0, 64])).hexdigest()
    assert weights_digest({"a": torch.tensor([1.0, 2.0])}, "vit") == expected
