"""Access to open_clip, imported on first use."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


def open_clip() -> Any:
    """Import open_clip; no network is used.

    Raises:
        ImportError: It is not installed; the message gives the command to install it.
    """
    try:
        import open_clip as module  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(f"projects.dime_fm needs open_clip ({error}): pip install open_clip_torch==3.3.0") from error
    return module


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """Return OpenAI's byte-pair tokenizer; its vocabulary is part of open_clip."""
    return open_clip().SimpleTokenizer()
