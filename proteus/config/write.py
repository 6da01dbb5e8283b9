"""Write a config file as a person would: short, in the order given, with comments."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proteus.structures import ConfigError
from proteus.utils import write_text

_WIDTH = 120
_INDENT = "    "


def relative_to_config(folder: Path, name: str) -> str:
    """Return the path ``folder/name`` as a config in ``folder`` writes it, so that both can be moved together.

    MMEngine puts the folder in the place of ``{{ fileDirname }}`` in the text of the config. A folder with quotes or
    backslashes would end the string there, and gives an absolute path instead.
    """
    path = folder.absolute() / name
    return str(path) if set(str(path)) & set('"\\') else f"{{{{ fileDirname }}}}/{name}"


def write_config(
    path: str | Path, values: Mapping[str, Any], header: str = "", comments: Mapping[str, str] | None = None
) -> None:
    """Write a Python config; see :func:`config_text`.

    Raises:
        ConfigError: A value cannot be written as a literal.
        FullDiskError: The disk has no room for the file.
    """
    write_text(Path(path), config_text(values, header, comments))


def config_text(values: Mapping[str, Any], header: str = "", comments: Mapping[str, str] | None = None) -> str:
    """Return the text of a Python config.

    A value that equals an earlier variable of the file, such as ``train_pipeline``, is written as its name.

    Args:
        values: Variables in the order of the file: literals, dicts, lists and tuples of them.
        header: Comment at the top, without ``#``.
        comments: Comments by dotted key (``optim_wrapper.optimizer.lr``), written behind the value or above it.

    Raises:
        ConfigError: A value cannot be written as a literal.
    """
    writer = _Writer(dict(comments or {}))
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    previous = 0
    for name, value in values.items():
        _check_literal(name, value)
        text = f"{name} = {writer.value(name, value, 0, len(name) + 3)}"
        entry = writer.with_comment(name, text, 0)
        if previous and (previous > 1 or len(entry) > 1 or "\n" in text):
            lines.append("")
        previous = len(entry) + text.count("\n")
        lines += entry
        if isinstance(value, (list, dict)) and value:
            writer.variables.setdefault(name, value)
    return "\n".join(lines) + "\n"


class _Writer:
    """Formats nested values in the style of ``ruff format``.

    Args:
        comments: Comments by dotted key.
    """

    def __init__(self, comments: dict[str, str]) -> None:
        self.comments = comments
        self.variables: dict[str, Any] = {}

    def value(self, key: str, value: Any, depth: int, used: int) -> str:
        """Return the text of a value, with ``used`` characters in front of it and a comma behind it."""
        for name, variable in self.variables.items():
            if isinstance(value, (list, dict)) and value and type(value) is type(variable) and value == variable:
                return name
        if not isinstance(value, (Mapping, list, tuple)) or not value:
            return "dict()" if isinstance(value, Mapping) else _literal(value)
        items = self._items(key, value)
        opening, closing = _brackets(value)
        if not any(self._has_comment(path) for path, _, _ in items):
            parts = [prefix + self.value(path, item, 0, 0) for path, prefix, item in items]
            comma = "," if isinstance(value, tuple) and len(parts) == 1 else ""
            line = opening + ", ".join(parts) + comma + closing
            if "\n" not in line and used + len(line) + (depth > 0) <= _WIDTH:
                return line
        lines = [opening]
        margin = _INDENT * (depth + 1)
        for path, prefix, item in items:
            text = margin + prefix + self.value(path, item, depth + 1, len(margin) + len(prefix)) + ","
            lines += self.with_comment(path, text, depth + 1)
        return "\n".join([*lines, _INDENT * depth + closing])

    def with_comment(self, key: str, text: str, depth: int) -> list[str]:
        """Return the lines of an entry and its comment."""
        comment = self.comments.get(key)
        if comment is None:
            return [text]
        if "\n" not in text and len(text) + len(comment) + 4 <= _WIDTH:
            return [f"{text}  # {comment}"]
        return [f"{_INDENT * depth}# {comment}", text]

    def _items(self, key: str, value: Any) -> list[tuple[str, str, Any]]:
        """Return the dotted key, the text in front, and the value of each item."""
        if not isinstance(value, Mapping):
            return [(f"{key}.{position}", "", item) for position, item in enumerate(value)]
        named = _has_names(value)
        return [(f"{key}.{name}", f"{name}=" if named else f"{_literal(name)}: ", item) for name, item in value.items()]

    def _has_comment(self, key: str) -> bool:
        return any(name == key or name.startswith(f"{key}.") for name in self.comments)


def _brackets(value: Any) -> tuple[str, str]:
    if isinstance(value, Mapping):
        return ("dict(", ")") if _has_names(value) else ("{", "}")
    return ("[", "]") if isinstance(value, list) else ("(", ")")


def _has_names(value: Mapping[Any, Any]) -> bool:
    """Whether all keys can be arguments of ``dict``."""
    return all(isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key) for key in value)


def _literal(value: Any) -> str:
    if isinstance(value, float):
        return re.sub(r"e([+-])0", r"e\1", repr(value))  # 1e-5
    if not isinstance(value, str):
        return repr(value)
    return repr(value) if '"' in value else f'"{repr(value)[1:-1]}"'


def _check_literal(key: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for name, item in value.items():
            _check_literal(f"{key}.{name}", item)
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            _check_literal(f"{key}.{position}", item)
    elif value is not None and not isinstance(value, (str, int, float, bool)):
        raise ConfigError([f"{key}: found {type(value).__name__}, expected a string, a number, a list or a dict"])
    elif isinstance(value, float) and value - value != 0:
        raise ConfigError([f"{key}: found {value}, expected a finite number"])
