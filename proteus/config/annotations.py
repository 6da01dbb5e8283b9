"""Compare config values with the annotations of constructors."""

from __future__ import annotations

import collections.abc
import inspect
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin

from mmengine.config.lazy import LazyAttr, LazyObject


@dataclass(frozen=True)
class Hint:
    """Annotation and default of one argument.

    Attributes:
        annotation: The annotation; a string in modules with postponed evaluation.
        default: ``inspect.Parameter.empty`` for a required argument.
        names: Names that the annotation may use.
    """

    annotation: Any
    default: Any = inspect.Parameter.empty
    names: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


def hints_of(function: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> dict[str, Hint]:
    """Return the annotations and defaults of a function's arguments, by name."""
    names = getattr(inspect.unwrap(function), "__globals__", {})
    return {parameter.name: Hint(parameter.annotation, parameter.default, names) for parameter in parameters}


def wrong_type(value: Any, hint: Hint, strict: bool = True) -> str | None:
    """Describe a value that does not fit its annotation.

    Any value is valid if the annotation is missing or names a type that a config cannot hold. The default is always
    valid, and so is a list for a tuple.

    Args:
        value: The value in the config.
        hint: Annotation and default of the argument.
        strict: Refuse all values that the annotation does not allow. Otherwise, for packages with incomplete
            annotations, refuse only a string for a number, a number for a list or dict, and anything but True and
            False for a bool.

    Returns:
        ``found X, expected Y``, with a correction if the meaning is clear; None if the value is valid.
    """
    if isinstance(value, (LazyObject, LazyAttr)) or (type(value) is type(hint.default) and value == hint.default):
        return None
    if value is None and hint.default is None:
        return None
    annotation = _resolved(hint)
    if _accepts(annotation, value) or not (strict or _is_gross(annotation, value)):
        return None
    return not_expected(value, _description(annotation))


def not_expected(value: Any, expected: str) -> str:
    """Return ``found X, expected Y``, with a correction if the meaning is clear."""
    hint = ""
    if "integer" in expected and isinstance(value, int) and abs(value) >= 2**31:
        hint = " below 2**31"
    elif "integer" in expected and isinstance(value, float) and math.isfinite(value) and value == int(value):
        hint = f"; write {int(value)}"
    elif isinstance(value, str) and ("number" in expected or "integer" in expected) and _is_number(value):
        hint = f"; write {value.strip()} without quotes"
    elif "True or False" in expected and isinstance(value, str) and value.strip().lower() in ("true", "false"):
        hint = f"; write {value.strip().capitalize()} without quotes"
    return f"found {shown(value)}, expected {expected}{hint}"


def shown(value: Any) -> str:
    """Format a value as in a config, shortened."""
    if isinstance(value, Mapping):
        return f"a dict ({', '.join(map(str, list(value)[:4])) or 'empty'})"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _resolved(hint: Hint) -> Any:
    if hint.annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(hint.annotation, str):
        return hint.annotation
    try:
        return eval(hint.annotation, {**vars(typing), **vars(collections.abc), **hint.names})  # our code
    except Exception:  # a name imported for type checkers only
        return Any


def _accepts(annotation: Any, value: Any) -> bool:
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in (None, type(None)):
        return value is None
    if origin in (Union, types.UnionType):
        return any(_accepts(each, value) for each in inner)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if origin is typing.Annotated:
        return _accepts(inner[0], value)
    if annotation is bool:
        return isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
    if annotation is str:
        return isinstance(value, (str, os.PathLike))
    base = origin or annotation
    if not isinstance(base, type):
        return True
    if issubclass(base, numbers.Number):
        return isinstance(value, base) and not isinstance(value, bool)
    if issubclass(base, os.PathLike):
        return isinstance(value, (str, os.PathLike))
    if issubclass(base, collections.abc.Mapping):
        # It may describe a part, or stand for a list of one.
        return isinstance(value, Mapping) and (
            len(inner) < 2 or all(_accepts(inner[1], item) for item in value.values())
        )
    if base in _SEQUENCES:
        return _accepts_sequence(base, inner, value)
    if base is object or base is Any:
        return True
    if isinstance(value, base) and not isinstance(value, bool):
        return True
    # Other objects are built from a dict, looked up by name, or created by code.
    return value is None or not isinstance(value, (bool, int, float))


def _is_gross(annotation: Any, value: Any) -> bool:
    """Whether a value does not fit even a loosely written annotation."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    bases = {get_origin(part) or part for part in parts} - {None, type(None)}
    if annotation is bool:
        return True
    if isinstance(value, str):
        return bases <= {int, float, bool}
    if isinstance(value, (bool, int, float)):
        return bool(bases) and all(base in _SEQUENCES or base in _MAPPINGS for base in bases)
    return False


_MAPPINGS = (dict, collections.abc.Mapping)
_SEQUENCES = (
    list,
    tuple,
    set,
    frozenset,
    collections.abc.Sequence,
    collections.abc.Iterable,
    collections.abc.Collection,
)


def _accepts_sequence(base: type, inner: tuple[Any, ...], value: Any) -> bool:
    if not isinstance(value, (list, tuple, set, frozenset, range)):
        # Python configs may pass generators, arrays or other objects.
        return not isinstance(value, (str, bytes, bool, int, float, Mapping, type(None)))
    if base is tuple and inner and Ellipsis not in inner:
        return len(value) == len(inner) and all(map(_accepts, inner, value))
    return not inner or all(_accepts(inner[0], item) for item in (value if not isinstance(value, range) else value[:1]))


def _description(annotation: Any, plural: bool = False) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    simple = {
        None: ("None", "None"),
        type(None): ("None", "None"),
        bool: ("True or False", "True or False"),
        int: ("an integer", "integers"),
        float: ("a number", "numbers"),
        str: ("a string", "strings"),
    }
    if origin in (Union, types.UnionType):
        # None last
        parts = sorted(inner, key=lambda each: each is type(None))
        return " or ".join(dict.fromkeys(_description(part, plural) for part in parts))
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}" if len(inner) > 1 else repr(inner[0])
    if annotation in simple:
        return simple[annotation][plural]
    base = origin or annotation
    if isinstance(base, type) and issubclass(base, numbers.Number):
        return simple[float][plural]
    if isinstance(base, type) and issubclass(base, os.PathLike):
        return simple[str][plural]
    if isinstance(base, type) and issubclass(base, collections.abc.Mapping):
        return (
            f"a dict of {_description(inner[1], plural=True)}" if len(inner) == 2 and inner[1] in simple else "a dict"
        )
    if base in _SEQUENCES:
        known = [each for each in inner if each is not Ellipsis]
        count = f"{len(known)} " if base is tuple and inner and Ellipsis not in inner else ""
        return f"a list of {count}{_description(known[0], plural=True)}" if known else "a list"
    return "a dict with a type"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
