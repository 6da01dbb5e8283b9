"""Configs of the comparisons with small batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], None]:
    """Let a comparison train each of its configs on four images at a time instead of up to 50."""

    def small_batches(comparison: ModuleType) -> None:
        folder = tmp_path / "configs"
        for path in comparison.CONFIGS.rglob("*.py"):
            copy = folder / path.relative_to(comparison.CONFIGS)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(f"_base_ = {str(path)!r}\ntrain_dataloader = dict(batch_size=4)\n")
        monkeypatch.setattr(comparison, "CONFIGS", folder)

    return small_batches
