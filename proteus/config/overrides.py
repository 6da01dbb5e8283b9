"""Check overrides from the command line: ``--cfg-options model.student.depth=6``.

MMEngine adds an unknown path as a new key, and overriding a variable that the file has already used has no effect.
Both would go unnoticed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from proteus.config import schema
from proteus.config.registry_lookup import ScopeError
from proteus.config.schema import Slot, top_slot
from proteus.config.suggestions import nearest, unknown_key
from proteus.config.validate import known_keys

# Runner adds these hooks unless default_hooks has them; None removes one.
RUNNER_HOOKS = frozenset({"runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint"})


def merged(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Return a copy of a config with the overrides merged."""
    result = copy.deepcopy(config)
    if overrides:
        result.merge_from_dict(copy.deepcopy(dict(overrides)))
    return result


def check_overrides(config: Config, overrides: Mapping[str, Any]) -> dict[str, str]:
    """Find overrides of unknown keys, and overrides without effect.

    Args:
        config: The config before the merge.
        overrides: Values by dotted key, with list positions as numbers.

    Returns:
        One line by refused override: the reason and the remedy.
    """
    root = dict(config.items())
    problems = {}
    for path, value in overrides.items():
        text = _walk(root, path, value, overrides)
        if text is not None:
            problems[path] = f"override {path}: {text}"
    return problems


def _walk(root: Mapping[str, Any], path: str, value: Any, overrides: Mapping[str, Any]) -> str | None:
    parts = path.split(".")
    if parts[0] not in schema.KNOWN:
        return _variable(root, parts, overrides)
    node: Any = root
    slot, scope = schema.PLAIN, root.get("default_scope") or "mmengine"
    for depth, key in enumerate(parts):
        here = ".".join(parts[:depth])
        if overrides.get(f"{here}._delete_") is True:  # a new dict; its keys are checked after the merge
            return None
        if isinstance(node, (list, tuple)):
            if not key.isdigit() or int(key) >= len(node):
                span = f"choose from 0 to {len(node) - 1}" if node else "the list is empty"
                return f"{here} is a list of {len(node)}; '{key}' is not a position in it; {span}"
            node = node[int(key)]
        elif isinstance(node, Mapping):
            scope = node.get("_scope_") or scope
            if key not in node:
                return _new_key(node, key, here, slot, scope, value, overrides)
            inner = top_slot(key) if depth == 0 else slot.child(key, node[key])
            node, slot = node[key], inner
        else:
            return (
                f"{here} is {node!r}, which has no keys; set {here} itself, or add {here}._delete_=True for a new dict"
            )
    if isinstance(node, Mapping) and value is not None and not isinstance(value, Mapping):
        return f"{path} is a dict with the keys {', '.join(map(str, node))}; name one of them ({path}.KEY=VALUE)"
    if parts[-1].isdigit() and not isinstance(value, Mapping):
        return f"one entry of a list cannot be set alone; write the whole list ({'.'.join(parts[:-1])}=[...])"
    return None


def _new_key(
    node: Mapping[str, Any], key: str, here: str, slot: Slot, scope: str, value: Any, overrides: Mapping[str, Any]
) -> str | None:
    """Check a key that the config does not have."""
    if not here or key in ("type", "_delete_", "_scope_"):
        return None
    try:
        known = known_keys(node, slot, scope)
    except (LookupError, ScopeError, TypeError):  # reported by the check of the merged config
        return None
    if known is not None:
        label, keys, kind = known
        return None if keys.open or key in keys.required else unknown_key(key, label, keys, kind)
    if slot is schema.TOP["default_hooks"] and key in RUNNER_HOOKS and value is None:
        return None
    if f"{here}.{key}.type" in overrides or (isinstance(value, Mapping) and "type" in value):
        return None
    near = nearest(key, list(node), 2)
    hint = f"did you mean {' or '.join(repr(name) for name in near)}?" if near else "write one of its keys."
    return f"{here} has no '{key}'; {hint} It has: {', '.join(map(str, node)) or 'no keys'}"


def _variable(root: Mapping[str, Any], parts: list[str], overrides: Mapping[str, Any]) -> str | None:
    """Check the override of a top-level name that the runner does not read."""
    name = parts[0]
    if name not in root:
        near = nearest(name, [*schema.KNOWN, *root], 2, cutoff=0.7)
        hint = f"did you mean {' or '.join(repr(one) for one in near)}?" if near else "correct the name"
        return f"'{name}' is neither a key of the runner nor a variable of the file; {hint}"
    used = [path for key in root if key in schema.KNOWN for path in _holders(root[key], root[name], key)]
    holders = [path for path in used if not any(other == path or path.startswith(f"{other}.") for other in overrides)]
    if not used and isinstance(root[name], (int, float)) and not isinstance(root[name], bool):
        return (
            f"'{name}' is a variable that the file has already calculated with, so this changes nothing; "
            "override the keys that depend on it"
        )
    if not holders:
        return None
    tail = ".".join(["", *parts[1:]])
    shown = ", ".join(f"{path}{tail}" for path in holders[:8]) + (" ..." if len(holders) > 8 else "")
    return f"'{name}' is a variable that the file has already used, so this changes nothing; override {shown}"


def _holders(value: Any, wanted: Any, path: str) -> Iterator[str]:
    """Yield the dotted keys in ``value`` that hold ``wanted``, or a path below it."""
    starts = (
        isinstance(wanted, str) and isinstance(value, str) and wanted and value.startswith(wanted.rstrip("/") + "/")
    )
    if starts or (type(value) is type(wanted) and value == wanted):
        yield path
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _holders(item, wanted, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _holders(item, wanted, f"{path}.{index}")
