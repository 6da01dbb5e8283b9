"""Settings and fixtures of the whole test session."""

from __future__ import annotations

import gc
from pathlib import Path

import built_wheel
import pytest


def pytest_collection_finish() -> None:
    """Exempt all imported modules from garbage collection, which each of MMEngine's data sets starts when built."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    return built_wheel.build(built_wheel.copy_sources(folder / "sources"), folder / "dist")


@pytest.fixture(scope="session")
def installed_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with the unpacked wheel, outside of the checkout."""
    return built_wheel.unpack(wheel, tmp_path_factory.mktemp("installed"))
