"""``torch.compile`` as a key of a config."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(key: str, function: _Function, options: bool | Mapping[str, Any]) -> _Function:
    """Compile a function, or return it unchanged.

    Shapes are static unless ``dynamic`` is set: each batch size is compiled separately. By torch's default, a second
    size would replace the first graph by one for any size, which is slower and may round differently.

    Args:
        key: Config key, for messages.
        function: Function to compile; it is compiled at its first call.
        options: False, True, or options of ``torch.compile``: ``dict(mode='reduce-overhead')`` for CUDA graphs.

    Returns:
        The compiled function, or ``function``.

    Raises:
        ValueError: ``torch.compile`` does not know an option or its value.
    """
    if options is False:
        return function
    if options is not True and not isinstance(options, Mapping):
        raise ValueError(f"{key}={options!r}: write True, False, or options such as dict(mode='reduce-overhead')")
    chosen = {} if options is True else _plain(options)
    known = [name for name in inspect.signature(torch.compile).parameters if name != "model"]
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(f"{key}.{unknown[0]}: torch.compile takes {', '.join(known)}")
    try:
        made: Any = torch.compile(function, **{"dynamic": False, **chosen})
    except RuntimeError as error:
        raise ValueError(f"{key}={options!r}: {error}") from error
    return made


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    # Dictionaries of a config also answer for missing keys.
    return {key: _plain(inner) if isinstance(inner, Mapping) else inner for key, inner in value.items()}
