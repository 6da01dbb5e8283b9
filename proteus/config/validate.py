"""Check all keys and values of a config before anything is built.

MMEngine finds a misspelt key only when it builds the part, often minutes into a run, and treats a misspelt top-level
name as a variable. Here, each dict is compared with the signature that it is for. All problems are reported together,
each with a remedy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.runner import Runner

from proteus.config import registry_lookup as k
from proteus.config import schema
from proteus.config.annotations import Hint, not_expected, wrong_type
from proteus.config.contradictions import check_combinations, contradictions_in_dict
from proteus.config.range_table import rule_for
from proteus.config.ranges import Range
from proteus.config.registry_lookup import ScopeError, find
from proteus.config.schema import Slot, top_slot
from proteus.config.signatures import Keys, keys_of
from proteus.config.suggestions import nearest, unknown_key, unknown_type

_MARKS = frozenset({"type", "_scope_", "_delete_"})


def check_config(config: Config) -> list[str]:
    """Return the problems of a config, one line each."""
    imported = getattr(config, "_imported_names", ())  # classes and modules in a pure Python config
    root = {key: value for key, value in config.items() if key not in imported}
    check = _Check(root.get("default_scope") or "mmengine")
    for key in root:
        if key not in schema.KNOWN:
            check.top_level_name(key)
    for key, slot in schema.TOP.items():
        if rule_for("config", None, key, ours=False) is None:
            check.expect_parts(root.get(key), key, slot)
    for key in sorted(
        root, key=lambda name: name not in schema.KNOWN
    ):  # problems of a variable are reported where it is used
        check.visit(root[key], key, top_slot(key), check.scope, is_variable=key not in schema.KNOWN)
    check.groups(root)
    check.top_level_values(root)
    return check.problems


def known_keys(value: Mapping[str, Any], slot: Slot, scope: str) -> tuple[str, Keys, k.Kind | None] | None:
    """Find the keys that a dict may have.

    Args:
        value: The dict.
        slot: Its position.
        scope: Default scope there.

    Returns:
        Label for messages, keys, and kind of part; None if the keys are not known.

    Raises:
        LookupError: The ``type`` is not registered.
        ScopeError: A scope cannot be imported.
        TypeError: The ``type`` is neither a name nor callable.
    """
    if "type" not in value or slot.type_is_key:
        known = slot.untyped(value) if slot.untyped else None
        return (*known, None) if known else None
    name, kind = value["type"], slot.kinds[0] if slot.kinds is not k.ALL else None
    if isinstance(name, str):
        found = find(name, scope, slot.kinds)
        if found is None:
            raise LookupError(name)
        target, kind = found.target, found.kind or kind
    elif callable(name):
        target, name = name, getattr(name, "__name__", str(name))
        kind = next((one for one in slot.kinds if target in one.root.module_dict.values()), kind)
    else:
        raise TypeError(f"type is {name!r}; write a registered name or a class")
    keys = keys_of(target)
    if kind is not None:
        keys = replace(keys, required={**dict.fromkeys(sorted(kind.extra), False), **keys.required})
    keys = _with_stored_keys(target, keys, value, scope)
    return name, keys, kind


def check_values(value: Mapping[str, Any], label: str, keys: Keys, kind: k.Kind | None) -> list[tuple[str, str]]:
    """Check the types and ranges of the values of a dict, then their contradictions.

    Args:
        value: The dict.
        label: Its type, or the label of its slot.
        keys: The keys that it may have.
        kind: Kind of part; None without a type.

    Returns:
        Key and ``found X, expected Y`` of each wrong value.
    """
    ours = keys.owner.split(".")[0] == "proteus"
    label = label if kind is None else label.rpartition(".")[2]
    problems = []
    for key, item in value.items():
        if key == "type":
            continue
        text = _problem(item, rule_for(label, kind, key, ours), keys.hints.get(key), ours)
        if text is not None:
            problems.append((key, text))
    return problems or list(contradictions_in_dict(label, value, keys))


def _problem(value: Any, rule: Range | None, hint: Hint | None, strict: bool) -> str | None:
    if isinstance(value, (LazyObject, LazyAttr)) or (value is None and hint is not None and hint.default is None):
        return None
    if rule is not None and not rule.accepts(value):
        return not_expected(value, rule.expected)
    if isinstance(value, float) and math.isnan(value):
        return not_expected(value, "a number")
    return wrong_type(value, hint, strict) if hint is not None else None


class _Check:
    """Collects the problems of one config."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.problems: list[str] = []
        self._reported: set[str] = set()

    def visit(self, value: Any, path: str, slot: Slot, scope: str, is_variable: bool = False) -> None:
        """Check a value and everything in it.

        Args:
            value: The value.
            path: Its dotted key.
            slot: Its position.
            scope: Default scope there.
            is_variable: It belongs to a top-level name that the runner does not read. Incomplete dicts are allowed.
        """
        if isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                self.visit(item, f"{path}[{index}]", slot, scope, is_variable)
        elif isinstance(value, Mapping):
            scope = value.get("_scope_") or scope
            self._keys(value, path, slot, scope, is_variable)
            for key, item in value.items():
                if key == "type" and not slot.type_is_key:
                    continue
                inner = slot.child(key, item)
                if not is_variable and (
                    key in (*slot.children, "vis_backends") or ("type" not in value and slot.others)
                ):
                    self.expect_parts(item, f"{path}.{key}", inner)
                self.visit(item, f"{path}.{key}", inner, scope, is_variable)

    def expect_parts(self, value: Any, path: str, slot: Slot) -> None:
        """Refuse a string or number in place of a part, and also None in a list of parts."""
        if isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                if item is None or isinstance(item, (str, int, float)):
                    self._expect_part(item, f"{path}[{index}]", slot)
        elif isinstance(value, (str, int, float)):
            self._expect_part(value, path, slot)

    def _expect_part(self, value: Any, path: str, slot: Slot) -> None:
        if slot.strict and slot.kinds is not k.ALL:
            self._add(path, f"found {value!r}, expected a dict with a type, the name of a {slot.kinds[0].name}", False)

    def _keys(self, value: Mapping[str, Any], path: str, slot: Slot, scope: str, is_variable: bool) -> None:
        """Check the keys of one dict."""
        try:
            known = known_keys(value, slot, scope)
        except ScopeError as error:
            self._add(f"{path}.type", str(error), is_variable, same=str(error))
            return
        except LookupError:
            self._add(f"{path}.type", unknown_type(value["type"], scope, slot), is_variable)
            return
        except TypeError as error:
            self._add(path, str(error), is_variable)
            return
        if known is None:
            self._untyped(value, path, slot, scope, is_variable)
            return
        label, keys, kind = known
        if not slot.type_only:
            self._compare(value, path, label, keys, kind, is_variable)
            if not is_variable:
                self._missing(value, path, label, keys, kind)
                for key, text in check_values(value, label, keys, kind):
                    self._add(f"{path}.{key}", text, False)
        if slot is schema.OPTIM_WRAPPER and isinstance(value.get("constructor"), str):
            self._registered(value["constructor"], f"{path}.constructor", scope, k.CONSTRUCTOR)
        if kind is k.HOOK and "ema_type" in value and isinstance(value["ema_type"], str):
            self._registered(value["ema_type"], f"{path}.ema_type", scope, k.MODEL)

    def _compare(
        self, value: Mapping[str, Any], path: str, label: str, keys: Keys, kind: k.Kind | None, is_variable: bool
    ) -> None:
        if keys.open:
            return
        filled = _MARKS | set(keys.required)
        for key in value:
            if key not in filled:
                self._add(f"{path}.{key}", unknown_key(key, label, keys, kind), is_variable)

    def _missing(self, value: Mapping[str, Any], path: str, label: str, keys: Keys, kind: k.Kind | None) -> None:
        # The enclosing model may pass arguments (the widths of a head), and a function gets its batch later. Arguments
        # that are still missing are reported when the parts are built.
        if kind in (k.MODEL, k.FUNCTION):
            return
        filled = kind.filled if kind is not None else frozenset()
        for key, needed in keys.required.items():
            if needed and key not in value and key not in filled:
                self._add(path, f"{label} needs '{key}', which is missing; write {path}.{key}", False)

    def _untyped(self, value: Mapping[str, Any], path: str, slot: Slot, scope: str, is_variable: bool) -> None:
        """Report a dict without ``type`` if it needs one, or with a misspelt ``type``."""
        named = (
            slot.others is not None
            and slot.others.strict
            and all(isinstance(v, (Mapping, list)) for v in value.values())
        )
        misspelt = next((key for key in nearest("type", value, 1) if self._is_name(value[key], scope, slot)), None)
        if misspelt is not None:
            self._add(f"{path}.{misspelt}", f"unknown key; did you mean 'type' (of {value[misspelt]})?", is_variable)
        elif slot.strict and not named and not is_variable:
            kinds = " or ".join(kind.name for kind in slot.kinds)
            found = ", ".join(map(str, value)) or "nothing"
            self._add(path, f"has no 'type' (found: {found}); write {path}.type, the name of a {kinds}", is_variable)

    def _is_name(self, value: Any, scope: str, slot: Slot) -> bool:
        if not isinstance(value, str):
            return False
        try:
            return find(value, scope, slot.kinds) is not None
        except ScopeError:
            return False

    def _registered(self, name: str, path: str, scope: str, kind: k.Kind) -> None:
        """Check a registered name that is a plain value."""
        slot = Slot((kind,), strict=True)
        try:
            if find(name, scope, slot.kinds) is None:
                self._add(path, unknown_type(name, scope, slot), False)
        except ScopeError as error:
            self._add(path, str(error), False)

    def top_level_name(self, key: str) -> None:
        """Refuse an unused top-level name that resembles a key of the runner."""
        own = key.startswith("_") or key[-1].isdigit() or key.endswith("pipeline")
        near = [] if own else nearest(key, schema.KNOWN, 1, cutoff=0.8)
        if near:
            self._add(key, f"not a key of the runner; did you mean '{near[0]}'? Rename it if it is your own", False)

    def groups(self, root: Mapping[str, Any]) -> None:
        """Check that loader, loop and optimizer or evaluator of a phase are all set, or none."""
        for phase, last in (("train", "optim_wrapper"), ("val", "val_evaluator"), ("test", "test_evaluator")):
            group = (f"{phase}_dataloader", f"{phase}_cfg", last)
            absent = [key for key in group if root.get(key) is None]
            if 0 < len(absent) < len(group):
                there = ", ".join(key for key in group if key not in absent)
                for key in absent:
                    self._add(key, f"missing, while {there} is set; write it, or set {there} to None", False)

    def top_level_values(self, root: Mapping[str, Any]) -> None:
        """Check values and combinations at the top level."""
        for key, text in [*check_values(root, "config", Keys(), None), *check_combinations(root)]:
            self._add(key, text, False)
        hooks = root.get("default_hooks")
        for key, hook in hooks.items() if isinstance(hooks, Mapping) else ():
            if isinstance(hook, (list, tuple)):
                self._add(
                    f"default_hooks.{key}", f"found a list of {len(hook)}, expected one hook; see custom_hooks", False
                )
        work_dir, launcher = root.get("work_dir"), root.get("launcher", "none")
        with suppress(OSError, RuntimeError, ValueError):  # an impossible name is refused where it is used
            if isinstance(work_dir, str) and Path(work_dir).expanduser().is_file():
                self._add("work_dir", f"'{work_dir}' is a file; write the name of a folder to make or to use", False)
        launchers = ("none", "pytorch", "slurm", "mpi")
        if launcher not in launchers:
            self._add("launcher", f"found {launcher!r}, expected one of {', '.join(launchers)}", False)

    def _add(self, path: str, text: str, is_variable: bool, same: str | None = None) -> None:
        mark = same or f"{path.rpartition('.')[2]}: {text}"
        if (is_variable or same) and mark in self._reported:
            return
        self._reported.add(mark)
        self.problems.append(" ".join(f"{path}: {text}".splitlines()))


def _with_stored_keys(target: Any, keys: Keys, value: Mapping[str, Any], scope: str) -> Keys:
    """Add keys that CheckpointHook and EMAHook store in their constructor and pass on later."""
    later: Any = None
    if isinstance(target, type) and issubclass(target, CheckpointHook):
        later = Runner.save_checkpoint
    elif target is EMAHook:
        average = find(str(value.get("ema_type", "ExponentialMovingAverage")), scope, (k.MODEL,))
        later = average.target if average is not None else None
    if later is None:
        return keys
    further = keys_of(later)
    filled = {"self", "model", "device", "out_dir", "filename"}
    names = {name: False for name in further.required if name not in filled}
    return Keys({**keys.required, **names}, further.open, {**further.hints, **keys.hints}, keys.owner)
