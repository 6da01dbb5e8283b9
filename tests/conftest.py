"""Settings of the whole test session."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """Exempt all imported modules from garbage collection, which each of MMEngine's data sets starts when built."""
    gc.collect()
    gc.freeze()
