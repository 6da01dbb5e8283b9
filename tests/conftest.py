"""Before any test module: ``proteus`` mends what importing timm or torchvision first would trip over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mmengine.registry import DefaultScope

import proteus  # noqa: F401


@pytest.fixture(autouse=True)
def default_scope() -> Iterator[None]:
    """Leave no default scope behind: in another's, a guest's names would be looked up in our registries."""
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)
