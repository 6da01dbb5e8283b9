"""What is taken from open_clip, imported when it is first needed."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


def open_clip() -> Any:
    """Import open_clip, which needs no network.

    Raises:
        ImportError: It is not installed; the message says what to install.
    """
    try:
        import open_clip as module  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(f"projects.dime_fm needs open_clip ({error}): pip install open_clip_torch==3.3.0") from error
    return module


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """OpenAI's byte-pair tokenizer, whose vocabulary comes with open_clip."""
    return open_clip().SimpleTokenizer()
