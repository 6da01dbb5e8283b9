"""Settings and fixtures of the whole test session."""

from __future__ import annotations

from pathlib import Path

import built_wheel
import pytest


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    return built_wheel.build(built_wheel.copy_sources(folder / "sources"), folder / "dist")


@pytest.fixture(scope="session")
def installed_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with the unpacked wheel, outside of the checkout."""
    return built_wheel.unpack(wheel, tmp_path_factory.mktemp("installed"))
