"""For the tests of the package and of the projects alike."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mmengine.registry import DefaultScope

# Before any test module: importing timm or torchvision first would fail without its patches.
import proteus  # noqa: F401


def _left_as_found() -> Iterator[None]:
    """Leave no default scope behind: in another's, a guest's names would be looked up in our registries."""
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


# Of a module too, since what its fixtures build may set a scope before its first test begins.
default_scope_of_module = pytest.fixture(autouse=True, scope="module", name="default_scope_of_module")(_left_as_found)
default_scope = pytest.fixture(autouse=True, name="default_scope")(_left_as_found)
