"""Check the values of one dict of a config: types, ranges and contradictions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config.lazy import LazyAttr, LazyObject

from proteus.config.ranges import Range, are_numbers
from proteus.config.registry_lookup import Kind
from proteus.config.signatures import Keys
from proteus.config.value_ranges import rule_for
from proteus.config.value_types import Hint, not_expected, wrong_type

_SCHEDULES = ("LR", "Momentum", "ParamScheduler", "Scheduler")


def check_values(value: Mapping[str, Any], label: str, keys: Keys, kind: Kind | None) -> list[tuple[str, str]]:
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
    return problems or list(_contradictions(label, value, keys))


def _problem(value: Any, rule: Range | None, hint: Hint | None, strict: bool) -> str | None:
    if isinstance(value, (LazyObject, LazyAttr)) or (value is None and hint is not None and hint.default is None):
        return None
    if rule is not None and not rule.accepts(value):
        return not_expected(value, rule.expected)
    if isinstance(value, float) and math.isnan(value):
        return not_expected(value, "a number")
    return wrong_type(value, hint, strict) if hint is not None else None


def _contradictions(label: str, value: Mapping[str, Any], keys: Keys) -> Iterator[tuple[str, str]]:
    """Find values that are valid alone and contradict each other."""

    def get(key: str) -> Any:
        hint = keys.hints.get(key)
        return value.get(key, hint.default if hint else None)

    if label == "DataLoader" and not value.get("num_workers", 0):
        for key, without in (("persistent_workers", False), ("prefetch_factor", None)):
            if value.get(key):
                yield key, f"found {value[key]} with num_workers=0, expected {without}, or a positive num_workers"
    begin, end = value.get("begin", 0), value.get("end")
    if label.endswith(_SCHEDULES) and are_numbers(begin, end) and end <= begin:
        yield "end", f"found {end} with begin={begin}, expected an integer above it"
    warmup, epochs = value.get("warmup_epochs", 0), value.get("epochs", math.inf)
    if are_numbers(warmup, epochs) and warmup >= epochs:
        yield "warmup_epochs", f"found {warmup} of {epochs} epochs, expected fewer"
    size, patch = get("img_size"), get("patch_size")
    if label in ("ViT", "DenseViT") and isinstance(size, int) and isinstance(patch, int) and size % patch:
        fitting = " or ".join(str(n) for n in (size - size % patch, size - size % patch + patch) if n)
        yield "img_size", f"found {size}, expected a multiple of patch_size={patch}, such as {fitting}"
    width, heads = value.get("embed_dim"), value.get("num_heads")
    if isinstance(width, int) and isinstance(heads, int) and width % heads:
        yield "num_heads", f"found {heads}, expected a divisor of embed_dim={width}"
    low, high = get("min_depth"), get("max_depth")
    if ("min_depth" in value or "max_depth" in value) and are_numbers(low, high) and low >= high:
        yield "max_depth", f"found {high}, expected more than min_depth={low}"
