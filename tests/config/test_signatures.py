from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import pytest
from mmengine.registry import OPTIM_WRAPPERS, PARAM_SCHEDULERS
from torch import nn

from proteus.config.signatures import Keys, keys_of


class Base:
    def __init__(self, a: int, b: int = 0, c: int = 0) -> None: ...


class Hands(Base):
    def __init__(self, d: int, **kwargs: Any) -> None:
        super().__init__(c=1, **kwargs)


class HandsFirst(Base):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(1, *args, **kwargs)


class Pops(Base):
    def __init__(self, **kwargs: Any) -> None:
        self.extra = kwargs.pop("extra", None)
        kwargs.setdefault("a", 3)
        super().__init__(**kwargs)


class Stores(Base):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(1)
        self.options = kwargs


class StoresAndHands(Base):
    def __init__(self, **kwargs: Any) -> None:
        self.options = dict(kwargs)
        super().__init__(**kwargs)


class Mixed(nn.Module):
    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class Inherits(Hands):
    names: ClassVar[list[str]] = []


def call(x: int, y: int = 0) -> None: ...


@pytest.mark.parametrize(
    ("target", "keys"),
    [
        (Base, {"a": True, "b": False, "c": False}),
        (Hands, {"d": True, "a": True, "b": False}),
        (Inherits, {"d": True, "a": True, "b": False}),
        (HandsFirst, {"b": False, "c": False}),
        (Pops, {"a": False, "b": False, "c": False, "extra": False}),
        (Mixed, {"width": True}),
        (call, {"x": True, "y": False}),
        (partial(call, y=1), {"x": True, "y": False}),
    ],
)
def test_kwargs_are_followed_to_the_base_class(target: Any, keys: dict[str, bool]) -> None:
    assert keys_of(target) == Keys(keys)


@pytest.mark.parametrize("target", [Stores, StoresAndHands, lambda **kwargs: None])
def test_kwargs_used_otherwise_leave_the_keys_open(target: Any) -> None:
    assert keys_of(target).open


def test_mixin_that_fills_a_positional_in_real_schedulers() -> None:
    keys = keys_of(PARAM_SCHEDULERS.get("LinearLR"))
    assert not keys.open
    assert "start_factor" in keys.required
    assert "param_name" not in keys.required  # LRSchedulerMixin passes 'lr' for it


def test_kwargs_of_a_real_wrapper() -> None:
    keys = keys_of(OPTIM_WRAPPERS.get("AmpOptimWrapper"))
    assert not keys.open
    assert {"dtype", "loss_scale", "optimizer", "accumulative_counts", "clip_grad"} <= set(keys.required)


def test_signatures_agree_with_python() -> None:
    for target in (Hands, Pops, HandsFirst):
        required = {name: 1 for name, needed in keys_of(target).required.items() if needed}
        target(**required)
        with pytest.raises(TypeError):
            target(**required, unheard=1)
