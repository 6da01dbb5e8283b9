"""Imports of the package run one way (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "proteus"
# From the ground up. A floor imports from those before it; parts of one floor do not import from each other.
FLOORS = [
    {"version", "compat", "registry", "structures"},
    {"utils"},
    {"checkpoints"},
    {"config"},
    {"models", "datasets"},
    {"evaluation", "exporters"},
    {"visualization"},
    {"engine"},
    {"apis"},
    {"cli"},
    {"__main__"},
]


def modules() -> dict[str, Path]:
    """Return the files of the package by module name."""
    files = (path for path in PACKAGE.rglob("*.py") if ".mim" not in path.parts)
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in files
    }


def imports(path: Path, known: dict[str, Path], at_import: bool = False) -> Iterator[str]:
    """Yield the modules of the package that a file imports.

    Args:
        path: The file.
        known: All modules of the package.
        at_import: Leave out imports inside functions and for type checkers.
    """
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8")), at_import):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == PACKAGE.name:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else str(node.module)


def _nodes(node: ast.AST, at_import: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        later = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not (at_import and (later or typing)):
            yield child
            yield from _nodes(child, at_import)


def floor_of(module: str) -> int:
    part = module.split(".")[1]
    return next(height for height, floor in enumerate(FLOORS) if part in floor)


def test_every_part_has_a_floor() -> None:
    parts = {name.split(".")[1] for name in modules() if name != PACKAGE.name}
    assert parts == set().union(*FLOORS)


def test_no_module_imports_from_its_own_floor_or_above() -> None:
    known = modules()
    upward = [
        f"{name} imports {other}"
        for name, path in known.items()
        if name != PACKAGE.name
        for other in imports(path, known)
        if other == PACKAGE.name or (other.split(".")[1] != name.split(".")[1] and floor_of(other) >= floor_of(name))
    ]
    assert upward == []


def test_no_circle() -> None:
    known = modules()
    edges = {name: set(imports(path, known, at_import=True)) for name, path in known.items()}
    finished: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            pytest.fail(" -> ".join([*path[path.index(name) :], name]))
        if name not in finished:
            for other in sorted(edges[name]):
                visit(other, (*path, name))
            finished.add(name)

    for name in sorted(edges):
        visit(name, ())
