"""Settings and fixtures of the whole test session."""

from __future__ import annotations

import gc
from collections.abc import Generator
from pathlib import Path

import built_wheel
import pytest


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import all test modules without garbage collections; the root's conftest.py then exempts what was imported."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    return built_wheel.build(built_wheel.copy_sources(folder / "sources"), folder / "dist")


@pytest.fixture(scope="session")
def installed_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with the unpacked wheel, outside of the checkout."""
    return built_wheel.unpack(wheel, tmp_path_factory.mktemp("installed"))
