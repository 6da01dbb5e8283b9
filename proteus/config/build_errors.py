"""Build the parts of a config, and report refused arguments with their key."""

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
"""What constructors raise at bad arguments."""
# Functions that build parts from a config, and the name of their config argument.
_BUILDERS = {build_from_cfg.__code__: "cfg", Runner.build_dataloader.__code__: "dataloader"}


@contextmanager
def as_config_error(config: str | Config, key: str = "") -> Iterator[None]:
    """Report an error of a part's constructor as a mistake in a config.

    Args:
        config: The config, in which the key of the part is looked up; or its name, where only that is known.
        key: Key of the part, used if it is not found in ``config``.

    Raises:
        ConfigError: A constructor refused its arguments; has the key and the constructor's message.
    """
    try:
        yield
    except REFUSALS as error:
        if mistake(error) is not None or isinstance(error, (ConnectionError, TimeoutError)):
            raise
        source = config if isinstance(config, str) else str(config.filename or "config")
        found = None if isinstance(config, str) else _key_of(error.__traceback__, config)
        where, words = found or key, error_words(error)
        # Some constructors name the key themselves.
        raise ConfigError([f"{where}: {words}" if where and not words.startswith(where) else words], source) from error


def error_words(error: Exception, named: bool = False) -> str:
    """Return the message of an exception in one line.

    Args:
        error: The exception.
        named: Begin with its type.
    """
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    if "must contain the key" in text and '"type"' in text:  # MMEngine's registry
        return "has no 'type'; write the name of what is to be built"
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
    """Dotted key of the innermost part that was being built; None if none of the config was."""
    built = []
    while trace is not None:
        name = _BUILDERS.get(trace.tb_frame.f_code)
        if name is not None:
            built.append(trace.tb_frame.f_locals.get(name))
        trace = trace.tb_next
    whole: Any = dict(config.items())
    found, inside = "", whole
    for part in built:  # the outer ones come first; each is looked for in the one before, then everywhere
        if not isinstance(part, Mapping):
            continue
        for root, path in ((inside, found), (whole, "")):
            near = list(_holders(root, part, path))
            exact = [(key, value) for key, value in near if value is part or value == part]
            match = next((each[0] for each in (exact, near) if len(each) == 1), None)
            if match is not None:
                found, inside = match
            if near:
                break
    return found or None


def _holders(value: Any, part: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the keys and the dicts of a config that a built dict may come from."""
    if isinstance(value, Mapping):
        if path and ("type" in value or "dataset" in value) and _alike(value, part):
            yield path, value
        for key, item in value.items():
            yield from _holders(item, part, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _holders(item, part, f"{path}[{index}]")


def _alike(one: Any, other: Any) -> bool:
    """Compare two values by the keys they share; constructors add or remove keys."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        shared = one.keys() & other.keys()
        return one.get("type") == other.get("type") and all(_alike(one[key], other[key]) for key in shared)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other)


def check_transforms(cfg: Config) -> None:
    """Build every transform of the loaders once, so that a wrong argument is reported before data is read.

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
