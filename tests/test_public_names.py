"""The names that users rely on: functions of the package, and commands."""

from __future__ import annotations

import ast
import inspect
from pkgutil import iter_modules
from typing import Any

import pytest

import proteus
from proteus.cli import VERBS

# Remove or rename one of these only with a new version, and say so in its notes.
FUNCTIONS = ["distill", "embed", "evaluate", "export", "list_models", "load_backbone", "load_config", "slice"]
COMMANDS = [
    "distill",
    "train",
    "check",
    "test",
    "evaluate",
    "embed",
    "infer",
    "models",
    "inspect",
    "convert",
    "config",
    "export",
    "slice",
    "pack",
    "cache",
]


def test_functions() -> None:
    assert sorted(proteus.__all__) == sorted(["__version__", *FUNCTIONS])
    assert set(FUNCTIONS) == set(proteus._LAZY)
    assert set(FUNCTIONS) < set(dir(proteus))
    with pytest.raises(AttributeError, match="module 'proteus' has no attribute 'nothing'"):
        proteus.nothing  # noqa: B018


def test_commands() -> None:
    assert sorted(VERBS) == sorted(COMMANDS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_typed_and_documented(name: str) -> None:
    function = getattr(proteus, name)
    assert function.__name__ == name
    signature = inspect.signature(function)
    untyped = [key for key, value in signature.parameters.items() if value.annotation is inspect.Parameter.empty]
    assert (untyped, signature.return_annotation is inspect.Signature.empty) == ([], False)
    documentation = inspect.getdoc(function) or ""
    undocumented = [key for key in signature.parameters if f"    {key}: " not in documentation]
    assert undocumented == []


def test_type_checkers_find_the_functions_where_they_are_imported_from() -> None:
    tree = ast.parse(inspect.getsource(proteus))
    imported: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for line in node.body:
                assert isinstance(line, ast.ImportFrom)
                imported |= {alias.name: line.module for alias in line.names}
    assert imported == proteus._LAZY


def test_no_module_hides_a_function() -> None:
    """The import of ``proteus.X`` would set the attribute that the function has."""
    assert not set(FUNCTIONS) & {info.name for info in iter_modules(proteus.__path__)}
