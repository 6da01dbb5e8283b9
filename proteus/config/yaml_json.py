"""Parse YAML and JSON configs as data, and refuse names that would run code."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from mmengine.fileio.handlers import YamlHandler
from mmengine.fileio.handlers.registry_utils import register_handler
from mmengine.registry import Registry

from proteus.config import registry_lookup as k
from proteus.structures import ConfigError

# Values of these keys are looked up in a registry, which imports a dotted name that is not registered.
_NAMED = frozenset({"type", "constructor", "ema_type", "runner_type"})
_SCOPES = frozenset({"mmengine", "proteus", *k.PACKAGES})
_ENVIRONMENT = re.compile(r"\{\{['\"]?\s*\$(\w+)")
# A few lines of nested aliases can exceed this; real configs do not.
_MAX_VALUES = 200_000


class _Loader(yaml.SafeLoader):
    """YAML loader that refuses tags of Python objects and duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a name", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key}' is written twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# MMEngine writes tuples with this tag, which runs no code.
_Loader.add_constructor(
    "tag:yaml.org,2002:python/tuple", lambda loader, node: tuple(loader.construct_sequence(node, deep=True))
)
# YAML 1.1 reads 1e-3 as a string.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


@register_handler(["yaml", "yml"])
class SafeYamlHandler(YamlHandler):
    """YAML handler that reads data only. It replaces MMEngine's handler in this process."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        """Parse a file; a ``Loader`` in ``kwargs`` is ignored."""
        return yaml.load(file, Loader=_Loader)


def parse_data(text: str, file: Path) -> dict[str, Any]:
    """Parse the text of a YAML or JSON config.

    Raises:
        ConfigError: The text is broken, holds Python objects or a duplicate key, or is not a mapping with string keys.
    """
    variable = _ENVIRONMENT.search(text)
    if variable:
        raise _error(file, f"'{{{{${variable[1]}' reads the environment, which a data config may not; write the value")
    for template, value in _templates(file).items():  # MMEngine replaces them before parsing
        text = re.sub(r"\{\{\s*" + template + r"\s*\}\}", value.replace("\\", "/"), text)
    text = re.sub(r"\{\{\s*(_base_\.[\w.]+)\s*\}\}", r'"\1"', text)
    try:
        content = _parse_json(text) if file.suffix == ".json" else yaml.load(text, Loader=_Loader)
        _count(content)
    except yaml.constructor.ConstructorError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        if error.problem and "could not determine a constructor" in error.problem:
            tag = error.problem.rpartition("tag ")[2].strip("'").replace("tag:yaml.org,2002:", "!!")
            raise _error(file, f"{line}the tag '{tag}' names a Python object; a YAML config is data") from error
        raise _error(file, f"{line}{error.problem}") from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1} " if error.problem_mark else ""
        raise _error(file, f"{line}is not YAML: {error.problem}") from error
    except json.JSONDecodeError as error:
        raise _error(file, f"line {error.lineno} is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise _error(file, "nested too deeply, or a value contains itself") from error
    except (ValueError, yaml.YAMLError) as error:
        raise _error(file, " ".join(str(error).split())) from error
    if not isinstance(content, dict):
        raise _error(file, f"found {type(content).__name__} at the top, expected keys such as model")
    for path, value in _walk(content):
        if isinstance(value, Mapping):
            wrong = next((key for key in value if not isinstance(key, str)), None)
            if wrong is not None:
                raise _error(file, f"{path or 'the top'} has the key {wrong!r}; quote it, since keys are names")
    return content


def check_data(content: Mapping[str, Any], file: Path) -> None:
    """Refuse names in a data config that would import or run code.

    Raises:
        ConfigError: Names the key.
    """
    if content.get("custom_imports"):
        raise _error(file, "custom_imports names code, which a data config may not; write this config in Python")
    scopes = _SCOPES | _registered_scopes()
    for path, value in _walk(content):
        key = path.rpartition(".")[2]
        if key in ("_scope_", "default_scope") and value is not None and value not in scopes:
            raise _error(file, f"{path}: unknown scope {value!r}; choose from: {', '.join(sorted(scopes))}")
        if key in _NAMED and isinstance(value, str) and not _is_safe_name(value, scopes):
            raise _error(
                file, f"{path}: '{value}' is not registered; a data config names registered parts only, never code"
            )


def _parse_json(text: str) -> Any:
    def keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"key '{twice}' is written twice")
        return found

    return json.loads(text, object_pairs_hook=keys)


def _templates(file: Path) -> dict[str, str]:
    path = os.path.abspath(file)
    return {
        "fileDirname": os.path.dirname(path),
        "fileBasename": file.name,
        "fileBasenameNoExtension": file.stem,
        "fileExtname": file.suffix,
    }


def _is_safe_name(name: str, scopes: frozenset[str]) -> bool:
    """Whether looking a name up imports nothing but a known toolbox.

    A registry imports names that it does not hold: the module, then the attribute after the last dot.
    """
    prefix, _, bare = name.rpartition(".")
    if prefix and prefix not in scopes:
        return False
    if not prefix:
        try:
            if not name or importlib.util.find_spec(name) is None:
                return True
        except (ValueError, ImportError):
            return True
    if prefix in k.PACKAGES:
        try:
            k.import_scope(prefix)
        except k.ScopeError:  # reported later, with the package to install
            return True
    for registry in _registries():
        if registry.scope == prefix or (not prefix and registry.scope in _SCOPES):
            with suppress(Exception):  # a broken installation may raise anything
                registry.import_from_location()
            if bare in registry.module_dict:
                return True
    return False


def _registries() -> Iterator[Registry]:
    stack = [kind.root for kind in k.ALL]
    while stack:
        registry = stack.pop()
        yield registry
        stack += registry.children.values()


def _registered_scopes() -> frozenset[str]:
    return frozenset(registry.scope for registry in _registries())


def _walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    yield path, value
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _walk(item, f"{path}[{index}]")


def _count(value: Any, sizes: dict[int, int] | None = None) -> int:
    """Count nested values; aliased values count each time.

    Raises:
        ValueError: The count exceeds the limit.
        RecursionError: A value contains itself.
    """
    sizes = {} if sizes is None else sizes
    if not isinstance(value, (dict, list, tuple, set)):
        return 1
    if id(value) not in sizes:
        items = value.values() if isinstance(value, dict) else value
        sizes[id(value)] = 1 + sum(_count(item, sizes) for item in items)
    if sizes[id(value)] > _MAX_VALUES:
        raise ValueError(f"more than {_MAX_VALUES:,} values through nested aliases")
    return sizes[id(value)]


def _error(file: Path, text: str) -> ConfigError:
    return ConfigError([text], str(file))
