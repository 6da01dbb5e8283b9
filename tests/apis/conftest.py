"""Fixtures of the functions behind the commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def without_graphs() -> Iterator[None]:
    """Model folders without ONNX and torch.export, which take seconds each; ``tests/test_wheel.py`` writes them all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proteus.exporters.folder.FORMATS", ("timm", "hf", "openmmlab"))
        yield
