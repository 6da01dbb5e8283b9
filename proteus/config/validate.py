"""Tell what is wrong in a config before anything is built or read.

MMEngine finds a misspelt key only when it builds the part, often minutes into a run, and takes a misspelt
top-level name for a variable of the user's own. Here every dict is compared with the signature of what it is
for, and all faults are told together, each with what to write instead.
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
from proteus.config import schema as places
from proteus.config.annotations import Hint, not_expected, wrong_type
from proteus.config.contradictions import check_combinations, contradictions_in_dict
from proteus.config.range_table import rule_for
from proteus.config.ranges import Range
from proteus.config.registry_lookup import ScopeError, find
from proteus.config.schema import Place, top_place
from proteus.config.signatures import Keys, keys_of
from proteus.config.suggestions import nearest, unknown_key, unknown_type

_MARKS = frozenset({"type", "_scope_", "_delete_"})


def check_config(config: Config) -> list[str]:
    """Give the problems of a config, one line each."""
    imported = getattr(config, "_imported_names", ())  # classes and modules, in a config of the pure Python style
    root = {key: value for key, value in config.items() if key not in imported}
    check = _Check(root.get("default_scope") or "mmengine")
    for key in root:
        if key not in places.KNOWN:
            check.top_level_name(key)
    for key, place in places.TOP.items():
        if rule_for("config", None, key, ours=False) is None:
            check.expect_parts(root.get(key), key, place)
    for key in sorted(root, key=lambda name: name not in places.KNOWN):  # a variable's faults show where it is used
        check.visit(root[key], key, top_place(key), check.scope, free=key not in places.KNOWN)
    check.groups(root)
    check.files(root)
    return check.problems


def known_keys(value: Mapping[str, Any], place: Place, scope: str) -> tuple[str, Keys, k.Kind | None] | None:
    """Tell which keys a dict takes.

    Args:
        value: the dict.
        place: where it stands.
        scope: the default scope there.

    Returns:
        What it is for, its keys and its kind; None where that is not known.

    Raises:
        LookupError: its ``type`` is not registered.
        ScopeError: a scope cannot be imported.
        TypeError: its ``type`` is neither a name nor something to call.
    """
    if "type" not in value or place.plain:
        known = place.schema(value) if place.schema else None
        return (*known, None) if known else None
    name, kind = value["type"], place.kinds[0] if place.kinds is not k.ALL else None
    if isinstance(name, str):
        found = find(name, scope, place.kinds)
        if found is None:
            raise LookupError(name)
        target, kind = found.target, found.kind or kind
    elif callable(name):
        target, name = name, getattr(name, "__name__", str(name))
        kind = next((one for one in place.kinds if target in one.root.module_dict.values()), kind)
    else:
        raise TypeError(f"type is {name!r}; write a registered name or a class")
    keys = keys_of(target)
    if kind is not None:
        keys = replace(keys, required={**dict.fromkeys(sorted(kind.extra), False), **keys.required})
    keys = _stored(target, keys, value, scope)
    return name, keys, kind


def check_values(value: Mapping[str, Any], label: str, keys: Keys, kind: k.Kind | None) -> list[tuple[str, str]]:
    """Compare the values of a dict with what their keys take.

    Args:
        value: The dict.
        label: Its type, or the name of its place in the config.
        keys: The keys that it may have.
        kind: Its kind; None where it has no type.

    Returns:
        For each value that is wrong, its key and ``found X, expected Y``.
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
    """One pass over a config; collects the problems."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.problems: list[str] = []
        self._told: set[str] = set()

    def visit(
        self,
        value: Any,
        path: str,
        place: Place,
        scope: str,
        free: bool = False,
    ) -> None:
        """Check what stands at ``path``, and all below it."""
        if isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                self.visit(item, f"{path}[{index}]", place, scope, free)
        elif isinstance(value, Mapping):
            scope = value.get("_scope_") or scope
            self._keys(value, path, place, scope, free)
            for key, item in value.items():
                if key == "type" and not place.plain:
                    continue
                inner = place.into(key, item)
                if not free and (key in (*place.inner, "vis_backends") or ("type" not in value and place.rest)):
                    self.expect_parts(item, f"{path}.{key}", inner)
                self.visit(item, f"{path}.{key}", inner, scope, free)

    def expect_parts(self, value: Any, path: str, place: Place) -> None:
        """Refuse text, a number or None where a part is described, or in a list of parts."""
        if isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                if item is None or isinstance(item, (str, int, float)):
                    self._expect_part(item, f"{path}[{index}]", place)
        elif isinstance(value, (str, int, float)):
            self._expect_part(value, path, place)

    def _expect_part(self, value: Any, path: str, place: Place) -> None:
        if place.strict and place.kinds is not k.ALL:
            self._add(path, f"found {value!r}, expected a dict with a type, the name of a {place.kinds[0].name}", False)

    def _keys(self, value: Mapping[str, Any], path: str, place: Place, scope: str, free: bool) -> None:
        """Check the keys of one dict."""
        try:
            known = known_keys(value, place, scope)
        except ScopeError as error:
            self._add(f"{path}.type", str(error), free, same=str(error))
            return
        except LookupError:
            self._add(f"{path}.type", unknown_type(value["type"], scope, place), free)
            return
        except TypeError as error:
            self._add(path, str(error), free)
            return
        if known is None:
            self._untyped(value, path, place, scope, free)
            return
        label, keys, kind = known
        if not place.layer:
            self._compare(value, path, label, keys, kind, free)
            if not free:
                self._missing(value, path, label, keys, kind)
                for key, text in check_values(value, label, keys, kind):
                    self._add(f"{path}.{key}", text, False)
        if place is places.OPTIM_WRAPPER and isinstance(value.get("constructor"), str):
            self._registered(value["constructor"], f"{path}.constructor", scope, k.CONSTRUCTOR)
        if kind is k.HOOK and "ema_type" in value and isinstance(value["ema_type"], str):
            self._registered(value["ema_type"], f"{path}.ema_type", scope, k.MODEL)

    def _compare(
        self, value: Mapping[str, Any], path: str, label: str, keys: Keys, kind: k.Kind | None, free: bool
    ) -> None:
        if keys.open:
            return
        filled = _MARKS | set(keys.required)
        for key in value:
            if key not in filled:
                self._add(f"{path}.{key}", unknown_key(key, label, keys, kind), free)

    def _missing(self, value: Mapping[str, Any], path: str, label: str, keys: Keys, kind: k.Kind | None) -> None:
        # The part round a model's part may fill its keys in (a head's widths), and a function gets its batch later:
        # what is missing there shows when they are built.
        if kind in (k.MODEL, k.FUNCTION):
            return
        filled = kind.filled if kind is not None else frozenset()
        for key, needed in keys.required.items():
            if needed and key not in value and key not in filled:
                self._add(path, f"{label} needs '{key}', which is missing; write {path}.{key}", False)

    def _untyped(self, value: Mapping[str, Any], path: str, place: Place, scope: str, free: bool) -> None:
        """Tell of a dict that should have a ``type``, or has it misspelt."""
        named = (
            place.rest is not None and place.rest.strict and all(isinstance(v, (Mapping, list)) for v in value.values())
        )
        misspelt = next((key for key in nearest("type", value, 1) if self._is_name(value[key], scope, place)), None)
        if misspelt is not None:
            self._add(f"{path}.{misspelt}", f"unknown key; did you mean 'type' (of {value[misspelt]})?", free)
        elif place.strict and not named and not free:
            kinds = " or ".join(kind.name for kind in place.kinds)
            self._add(path, f"has no 'type' (found: {_listed(value)}); write {path}.type, the name of a {kinds}", free)

    def _is_name(self, value: Any, scope: str, place: Place) -> bool:
        if not isinstance(value, str):
            return False
        try:
            return find(value, scope, place.kinds) is not None
        except ScopeError:
            return False

    def _registered(self, name: str, path: str, scope: str, kind: k.Kind) -> None:
        """Check a name that stands alone, outside a dict with a type."""
        place = Place((kind,), strict=True)
        try:
            if find(name, scope, place.kinds) is None:
                self._add(path, unknown_type(name, scope, place), False)
        except ScopeError as error:
            self._add(path, str(error), False)

    def top_level_name(self, key: str) -> None:
        """Refuse a name that nobody reads if it looks like one that the runner does."""
        own = key.startswith("_") or key[-1].isdigit() or key.endswith("pipeline")
        near = [] if own else nearest(key, places.KNOWN, 1, cutoff=0.8)
        if near:
            self._add(key, f"not a key of the runner; did you mean '{near[0]}'? Rename it if it is your own", False)

    def groups(self, root: Mapping[str, Any]) -> None:
        """The runner takes all three of a phase, or none."""
        for phase, last in (("train", "optim_wrapper"), ("val", "val_evaluator"), ("test", "test_evaluator")):
            group = (f"{phase}_dataloader", f"{phase}_cfg", last)
            absent = [key for key in group if root.get(key) is None]
            if 0 < len(absent) < len(group):
                there = ", ".join(key for key in group if key not in absent)
                for key in absent:
                    self._add(key, f"missing, while {there} is set; write it, or set {there} to None", False)

    def files(self, root: Mapping[str, Any]) -> None:
        """Check the values that need no building."""
        for key, text in [*check_values(root, "config", Keys(), None), *check_combinations(root)]:
            self._add(key, text, False)
        hooks = root.get("default_hooks")
        for key, hook in hooks.items() if isinstance(hooks, Mapping) else ():
            if isinstance(hook, (list, tuple)):
                self._add(
                    f"default_hooks.{key}", f"found a list of {len(hook)}, expected one hook; see custom_hooks", False
                )
        work_dir, launcher = root.get("work_dir"), root.get("launcher", "none")
        with suppress(OSError, RuntimeError, ValueError):  # a name that cannot be looked up is refused where it is used
            if isinstance(work_dir, str) and Path(work_dir).expanduser().is_file():
                self._add("work_dir", f"'{work_dir}' is a file; write the name of a folder to make or to use", False)
        launchers = ("none", "pytorch", "slurm", "mpi")
        if launcher not in launchers:
            self._add("launcher", f"found {launcher!r}, expected one of {', '.join(launchers)}", False)

    def _add(self, path: str, text: str, free: bool, same: str | None = None) -> None:
        mark = same or f"{path.rpartition('.')[2]}: {text}"
        if (free or same) and mark in self._told:
            return
        self._told.add(mark)
        self.problems.append(" ".join(f"{path}: {text}".splitlines()))


def _stored(target: Any, keys: Keys, value: Mapping[str, Any], scope: str) -> Keys:
    """Add what two hooks of MMEngine do later with the further keys that their constructors store."""
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


def _listed(value: Mapping[str, Any]) -> str:
    return ", ".join(map(str, value)) or "nothing"
