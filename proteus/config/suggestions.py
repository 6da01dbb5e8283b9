"""Suggestions in error messages: the nearest name, file or alternative."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from mmengine.registry import Registry

from proteus.config import registry_lookup as k
from proteus.config.registry_lookup import Kind, find, registry_of
from proteus.config.schema import Slot
from proteus.config.signatures import Keys

_DATA = "the available depth data set is NYU-Depth V2: type='NYUDepth'"
_METHODS = "the available depth method is DPT: model.type='DepthEstimator', model.decode_head.type='DPTDepthHead'"
# Names in the Monocular-Depth-Estimation-Toolbox start with these, in lower case.
_NOT_AVAILABLE = {
    "kitti": _DATA,
    "sunrgbd": _DATA,
    "customdepth": _DATA,
    "cityscapesdepth": _DATA,
    "bts": _METHODS,
    "adabins": _METHODS,
    "binsformer": _METHODS,
    "depthformer": _METHODS,
    "simipu": _METHODS,
    "densedepth": _METHODS,
    "hahi": _METHODS,
    "efficientawarehead": _METHODS,
}


def not_available(name: str) -> str | None:
    """Describe a part of the Monocular-Depth-Estimation-Toolbox that Proteus does not have.

    Args:
        name: The unknown ``type``, with or without a scope.

    Returns:
        A message with the alternative; None for any other name.
    """
    bare = name.rpartition(".")[2]
    remedy = next((text for start, text in _NOT_AVAILABLE.items() if bare.lower().startswith(start)), None)
    return None if remedy is None else f"'{bare}' is not available in Proteus: {remedy}"


def unknown_key(key: str, label: str, keys: Keys, kind: k.Kind | None) -> str:
    """Describe an unknown key, with the nearest name and all names."""
    filled = kind.filled if kind is not None else frozenset()
    names = [name for name in keys.required if name not in filled]
    near = nearest(key, names, 1)
    hint = f"did you mean '{near[0]}'? It" if near else "it"
    return f"unknown key of {label}; {hint} takes: {', '.join(names) or 'no keys'}"


def unknown_type(name: str, scope: str, slot: Slot) -> str:
    """Describe a ``type`` that is not registered, with the nearest names."""
    unavailable = not_available(name)
    if unavailable is not None:
        return unavailable
    what = slot.suggested[0].name if slot.suggested is not k.ALL else "part"
    near = nearest_names(name, scope, slot.suggested)
    hint = f"did you mean {_or(near)}?" if near else "name the module that registers it in custom_imports"
    other = find(name, scope, k.ALL) if slot.strict else None
    if other is not None and other.kind is not None:
        hint = f"that name is a registered {other.kind.name}; {hint}"
    return f"no {what} '{name}' in scope '{scope}'; {hint}"


def near_file(path: str | Path) -> str:
    """Return the end of a message about a missing file: the most similar name in its folder."""
    folder, near = Path(path).expanduser().parent, nearest_file(path)
    if near is not None:
        return f"; did you mean '{near}'?"
    if not folder.is_dir():
        return f"; the folder '{folder}' does not exist"
    return f"; no file in '{folder}' has a similar name"


def nearest_file(path: str | Path) -> Path | None:
    """Return the path in the same folder with the most similar name, if there is one."""
    folder = Path(path).expanduser().parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    near = nearest(Path(path).name, names, 1, full_name=True)
    return folder / near[0] if near else None


def nearest_names(name: str, scope: str, kinds: tuple[Kind, ...], count: int = 3) -> list[str]:
    """Return the registered names nearest to ``name``, with a scope if they need one here."""
    names: dict[str, None] = {}
    for kind in kinds:
        registry: Registry | None = registry_of(kind, scope)
        while registry is not None:
            names.update(dict.fromkeys(registry.module_dict))
            registry = registry.parent
        for child in kind.root.children.values():
            if child.scope != scope:
                names.update(dict.fromkeys(f"{child.scope}.{key}" for key in child.module_dict))
    return nearest(name, names, count)


def nearest(word: str, words: Iterable[str], count: int = 3, cutoff: float = 0.6, full_name: bool = False) -> list[str]:
    """Return the most similar words, the nearest first; case is ignored.

    Args:
        word: The unknown word.
        words: The known words.
        count: Maximum number of results.
        cutoff: Minimum similarity, from 0 to 1.
        full_name: Compare whole words; otherwise only what follows the last dot, without the scope.
    """
    plain: dict[str, list[str]] = {}
    for one in words:
        plain.setdefault((one if full_name else one.rpartition(".")[2]).lower(), []).append(one)
    asked = (word if full_name else word.rpartition(".")[2]).lower()
    close = difflib.get_close_matches(asked, plain, n=count, cutoff=cutoff)
    return list(dict.fromkeys(original for match in close for original in plain[match]))[:count]


def _or(names: list[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)
