"""Which keys a class or a function takes from a config dict.

``inspect.signature`` stops at ``**kwargs``; here they are followed to the constructor of the base class that
they are handed to, so that a misspelt key of ``AmpOptimWrapper`` is found although its own signature takes all.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from proteus.config.annotations import Hint, hints_of


@dataclass(frozen=True)
class Keys:
    """The keys that a callable takes by name.

    Attributes:
        required: for each key, in the order of the signature, whether it has no default.
        open: whether further keys are taken that cannot be told from the source.
        hints: annotation and default of keys, where the signature has them.
        owner: module that defines the callable.
    """

    required: dict[str, bool] = field(default_factory=dict)
    open: bool = False
    hints: dict[str, Hint] = field(default_factory=dict, compare=False)
    owner: str = field(default="", compare=False)


@dataclass
class _Forward:
    """What becomes of the ``**kwargs`` of one constructor."""

    found: bool = False
    given: set[str] = field(default_factory=set)
    positional: int = 0
    own: set[str] = field(default_factory=set)
    elsewhere: bool = False


def keys_of(target: Callable[..., Any]) -> Keys:
    """Tell the keys that ``target`` can be built or called with.

    Args:
        target: a class, a function or any other callable.

    Returns:
        Its keys; ``open`` where the source does not tell where its ``**kwargs`` go.
    """
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
    if base is nn.Module:  # its own *args and **kwargs are there to be refused
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
    """Read from its source where a constructor hands its ``**name``."""
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
    """Note a key that ``kwargs.pop('x')``, ``kwargs['x']`` or ``'x' in kwargs`` reads; returns the uses it explains."""
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
