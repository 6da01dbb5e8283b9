"""``torch.compile`` as a key of a config."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(key: str, function: _Function, options: bool | Mapping[str, Any]) -> _Function:
    """Compile a function, or leave it as it is.

    Shapes are static unless ``dynamic`` says otherwise: a batch of another size is compiled once more, beside the
    first. With torch's own default it would replace the first by one for any size, which is slower and may round
    otherwise.

    Args:
        key: Of the config, for messages.
        function: What to compile; nothing is compiled before its first call.
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
    # A config's own dicts answer for keys that they do not have.
    return {key: _plain(inner) if isinstance(inner, Mapping) else inner for key, inner in value.items()}
