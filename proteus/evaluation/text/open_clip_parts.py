"""Access to open_clip, imported on first use: the extra ``text``."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from proteus.structures import UserError


def open_clip() -> Any:
    """Import open_clip; no network is used.

    Raises:
        UserError: It is not installed; the message names the extra.
    """
    try:
        import open_clip as module  # type: ignore[import-untyped]
    except ImportError as error:
        raise UserError(f"text towers need open_clip ({error}): pip install 'proteus-toolbox[text]'") from error
    return module


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """Return OpenAI's byte-pair tokenizer; its vocabulary is part of open_clip."""
    return open_clip().SimpleTokenizer()
