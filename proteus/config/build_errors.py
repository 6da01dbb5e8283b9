"""Report errors of constructors as config errors with the key of the part.

``proteus.utils.user_errors`` formats errors that a user can correct; this module turns constructor errors into such.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.registry.build_functions import build_from_cfg
from mmengine.runner import Runner

from proteus.config.check_consistency import pipelines
from proteus.registry import TRANSFORMS
from proteus.structures import ConfigError
from proteus.utils.user_errors import mistake

REFUSALS = (
    TypeError,
    ValueError,
    AssertionError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    NotImplementedError,
    ImportError,
    OSError,
)
"""Exceptions that constructors raise for bad arguments."""
# Functions that build parts from a config, and the name of their config argument.
_BUILDERS = {build_from_cfg.__code__: "cfg", Runner.build_dataloader.__code__: "dataloader"}


@contextmanager
def as_config_error(config: str | Config, key: str = "") -> Iterator[None]:
    """Turn an error of a constructor into a ``ConfigError``.

    Args:
        config: The config, to find the key of the part in; or only its name.
        key: Key of the part if it is not found in ``config``.

    Raises:
        ConfigError: A constructor refused its arguments; names the key and quotes the constructor.
    """
    try:
        yield
    except REFUSALS as error:
        if mistake(error) is not None or isinstance(error, (ConnectionError, TimeoutError)):
            raise
        source = config if isinstance(config, str) else str(config.filename or "config")
        found = None if isinstance(config, str) else _key_of(error.__traceback__, config)
        where, words = found or key, error_words(error)
        # Some messages start with the key already.
        raise ConfigError([f"{where}: {words}" if where and not words.startswith(where) else words], source) from error


def error_words(error: Exception, named: bool = False) -> str:
    """Return the message of an exception in one line.

    Args:
        error: The exception.
        named: Start with the type of the exception.
    """
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    if "must contain the key" in text and '"type"' in text:  # MMEngine's registry
        return "has no 'type'; write the name of a registered class"
    if named:
        return f"{type(error).__name__}: {text}"
    if isinstance(error, KeyError) and " " not in text:
        return f"unknown or missing name '{text}'"
    if text:
        return text
    frames = traceback.extract_tb(error.__traceback__)
    line = f", {frames[-1].line}" if frames and frames[-1].line else ""
    return f"refused by its constructor ({type(error).__name__}{line})"


def _key_of(trace: TracebackType | None, config: Config) -> str | None:
    """Return the dotted key of the innermost part that was being built, if there is one."""
    built = []
    while trace is not None:
        name = _BUILDERS.get(trace.tb_frame.f_code)
        if name is not None:
            built.append(trace.tb_frame.f_locals.get(name))
        trace = trace.tb_next
    config_dict: Any = dict(config.items())
    found, inside = "", config_dict
    for part in built:  # from outer to inner: search in the enclosing part first, then everywhere
        if not isinstance(part, Mapping):
            continue
        for root, path in ((inside, found), (config_dict, "")):
            near = list(_holders(root, part, path))
            exact = [(key, value) for key, value in near if value is part or value == part]
            match = next((each[0] for each in (exact, near) if len(each) == 1), None)
            if match is not None:
                found, inside = match
            if near:
                break
    return found or None


def _holders(value: Any, part: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield keys and dicts of a config that may be the source of a built dict."""
    if isinstance(value, Mapping):
        if path and ("type" in value or "dataset" in value) and _alike(value, part):
            yield path, value
        for key, item in value.items():
            yield from _holders(item, part, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _holders(item, part, f"{path}[{index}]")


def _alike(one: Any, other: Any) -> bool:
    """Compare two values by their common keys, since constructors add and remove keys."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        shared = one.keys() & other.keys()
        return one.get("type") == other.get("type") and all(_alike(one[key], other[key]) for key in shared)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other)


def check_transforms(cfg: Config) -> None:
    """Build all transforms of the loaders once, to report wrong arguments before data is read.

    Raises:
        ConfigError: Names the transform's key.
    """
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        dataset = (cfg.get(loader) or {}).get("dataset") or {}
        for key, steps in pipelines(dataset, f"{loader}.dataset"):
            build_steps(cfg, steps, key)


def build_steps(cfg: Config, steps: Sequence[Any], key: str) -> None:
    """Build the transforms of a pipeline once.

    Args:
        cfg: The config.
        steps: The pipeline.
        key: Its key.

    Raises:
        ConfigError: Names the transform's key.
    """
    for position, step in enumerate(steps):
        if isinstance(step, Mapping):
            scope = DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine"))
            with scope, as_config_error(cfg, f"{key}[{position}]"):
                TRANSFORMS.build(copy.deepcopy(step))
