"""Find the keys that a class or function takes from a config dict.

``inspect.signature`` stops at ``**kwargs``. This module follows them to the constructor of the base class, so that a
misspelt key of ``AmpOptimWrapper`` is found although its signature accepts any key.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from proteus.config.annotations import Hint, hints_of


@dataclass(frozen=True)
class Keys:
    """Keyword arguments of a callable.

    Attributes:
        required: Whether each key lacks a default, in the order of the signature.
        open: Whether other keys are accepted as well; the source does not show which.
        hints: Annotations and defaults by key.
        owner: Module that defines the callable.
    """

    required: dict[str, bool] = field(default_factory=dict)
    open: bool = False
    hints: dict[str, Hint] = field(default_factory=dict, compare=False)
    owner: str = field(default="", compare=False)


@dataclass
class _Forward:
    """Use of the ``**kwargs`` of one constructor.

    Attributes:
        found: They are passed to ``super().__init__``.
        given: Keywords that the constructor passes there itself.
        positional: Number of positional arguments that it passes there.
        own: Keys that it reads itself.
        elsewhere: They are also used in another way.
    """

    found: bool = False
    given: set[str] = field(default_factory=set)
    positional: int = 0
    own: set[str] = field(default_factory=set)
    elsewhere: bool = False


def keys_of(target: Callable[..., Any]) -> Keys:
    """Return the keys that a callable takes.

    Args:
        target: A class, function or other callable.

    Returns:
        The keys; ``open`` if the source does not show where ``**kwargs`` go.
    """
    return _keys_of(target) if isinstance(target, Hashable) else _keys_of.__wrapped__(target)


@functools.cache  # half of the time of a check; a config names most classes several times
def _keys_of(target: Callable[..., Any]) -> Keys:
    try:
        keys = _class_keys(target, inspect.getmro(target)) if inspect.isclass(target) else _function_keys(target)
        return replace(keys, owner=getattr(target, "__module__", None) or "")
    except (TypeError, ValueError):  # written in C, without a signature
        return Keys(open=True)


def _function_keys(function: Callable[..., Any]) -> Keys:
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    required = {p.name: p.default is p.empty for p in named}
    return Keys(required, any(p.kind is p.VAR_KEYWORD for p in parameters), hints_of(function, named))


def _class_keys(cls: type, mro: tuple[type, ...]) -> Keys:
    place = next((i for i, base in enumerate(mro) if "__init__" in vars(base)), len(mro) - 1)
    base = mro[place]
    if base is object:
        return _function_keys(cls) if "__new__" in dir(cls) and cls.__new__ is not object.__new__ else Keys()
    if base is nn.Module:  # it accepts *args and **kwargs only to raise an error
        return Keys()
    init = vars(base)["__init__"]
    parameters = list(inspect.signature(init).parameters.values())[1:]
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    required, hints = {p.name: p.default is p.empty for p in named}, hints_of(init, named)
    catch_all = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
    if catch_all is None:
        return Keys(required, hints=hints)
    forward = _follow(init, catch_all)
    if not forward.found or forward.elsewhere:
        return Keys(required, open=True, hints=hints)
    above = _class_keys(cls, mro[place + 1 :])
    for position, (name, needed) in enumerate(above.required.items()):
        if position >= forward.positional and name not in forward.given:
            required.setdefault(name, needed and name not in forward.own)
    for name in forward.own:
        required.setdefault(name, False)
    return Keys(required, above.open, {**above.hints, **hints})


@functools.cache  # parsing the source takes longer than the rest of a check
def _follow(init: Callable[..., Any], name: str) -> _Forward:
    """Find in the source of a constructor where it passes ``**name``."""
    forward = _Forward()
    tree = _source_tree(init)
    if tree is None:
        return forward
    accounted: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            stars = [k for k in node.keywords if k.arg is None and isinstance(k.value, ast.Name) and k.value.id == name]
            if stars and _is_super_init(node.func):
                forward.found = True
                forward.given |= {k.arg for k in node.keywords if k.arg is not None}
                plain = [a for a in node.args if not isinstance(a, ast.Starred)]
                forward.positional = max(forward.positional, len(plain))
                accounted |= {id(k.value) for k in stars}
            accounted |= _read_key(node.func, node.args, name, forward)
        elif isinstance(node, ast.Subscript):
            accounted |= _read_key(node, [node.slice], name, forward)
        elif isinstance(node, ast.Compare) and len(node.comparators) == 1:
            accounted |= _read_key(node.comparators[0], [node.left], name, forward)
    uses = {id(n) for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == name}
    forward.elsewhere = bool(uses - accounted)
    return forward


def _read_key(target: ast.expr, arguments: list[ast.expr], name: str, forward: _Forward) -> set[int]:
    """Record a key read by ``kwargs.pop('x')``, ``kwargs['x']`` or ``'x' in kwargs``; return the ids of these uses."""
    reads = isinstance(target, ast.Attribute) and target.attr in ("pop", "get", "setdefault")
    holder = (
        target.value
        if isinstance(target, ast.Subscript | ast.Attribute) and (reads or isinstance(target, ast.Subscript))
        else target
    )
    if not (isinstance(holder, ast.Name) and holder.id == name and arguments):
        return set()
    first = arguments[0]
    if not (isinstance(first, ast.Constant) and isinstance(first.value, str)):
        return set()
    forward.own.add(first.value)
    return {id(holder)}


def _is_super_init(function: ast.expr) -> bool:
    if not (isinstance(function, ast.Attribute) and function.attr == "__init__"):
        return False
    value = function.value
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "super"


def _source_tree(target: Any) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(target)))
    except (OSError, TypeError, SyntaxError):
        return None
