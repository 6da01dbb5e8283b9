"""Suggestions in error messages: the nearest name, file or alternative."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from mmengine.registry import Registry

from proteus.config import registry_lookup as k
from proteus.config.registry_lookup import Kind, find, registry_of
from proteus.config.schema import Place
from proteus.config.signatures import Keys

_DATA = "of its data sets there is NYU-Depth V2: type='NYUDepth'"
_METHODS = "of its methods there is DPT: model.type='DepthEstimator', model.decode_head.type='DPTDepthHead'"
_MISSING = {
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
    """Return a message that a name of the toolbox is not available, with what to write instead.

    Args:
        name: The unknown ``type``, with or without a scope.

    Returns:
        The sentence; None if it is not one of the toolbox's names.
    """
    bare = name.rpartition(".")[2]
    remedy = next((text for start, text in _MISSING.items() if bare.lower().startswith(start)), None)
    return None if remedy is None else f"'{bare}' is not available in Proteus: {remedy}"


def unknown_key(key: str, label: str, keys: Keys, kind: k.Kind | None) -> str:
    """Word the refusal of a key that ``label`` does not take."""
    filled = kind.filled if kind is not None else frozenset()
    names = [name for name in keys.required if name not in filled]
    near = nearest(key, names, 1)
    hint = f"did you mean '{near[0]}'? It" if near else "it"
    return f"unknown key of {label}; {hint} takes: {', '.join(names) or 'no keys'}"


def unknown_type(name: str, scope: str, place: Place) -> str:
    """Word the refusal of a ``type`` that is not registered."""
    unavailable = not_available(name)
    if unavailable is not None:
        return unavailable
    what = place.hinted[0].name if place.hinted is not k.ALL else "part"
    near = nearest_names(name, scope, place.hinted)
    hint = f"did you mean {_or(near)}?" if near else "name the module that registers it in custom_imports"
    other = find(name, scope, k.ALL) if place.strict else None
    if other is not None and other.kind is not None:
        hint = f"that name is of kind {other.kind.name}; {hint}"
    return f"no {what} '{name}' in scope '{scope}'; {hint}"


def near_file(path: str | Path) -> str:
    """Give the nearest name that exists beside a missing file, as the end of a sentence."""
    folder, near = Path(path).expanduser().parent, nearest_file(path)
    if near is not None:
        return f"; did you mean '{near}'?"
    if not folder.is_dir():
        return f"; the folder '{folder}' does not exist"
    return f"; nothing in '{folder}' has a name like it"


def nearest_file(path: str | Path) -> Path | None:
    """Give what exists beside a missing file under a name like its own."""
    folder = Path(path).expanduser().parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    near = nearest(Path(path).name, names, 1, whole=True)
    return folder / near[0] if near else None


def nearest_names(name: str, scope: str, kinds: tuple[Kind, ...], most: int = 3) -> list[str]:
    """Give the registered names that are nearest to ``name``, as they would be written in this scope."""
    names: dict[str, None] = {}
    for kind in kinds:
        registry: Registry | None = registry_of(kind, scope)
        while registry is not None:
            names.update(dict.fromkeys(registry.module_dict))
            registry = registry.parent
        for child in kind.root.children.values():
            if child.scope != scope:
                names.update(dict.fromkeys(f"{child.scope}.{key}" for key in child.module_dict))
    return nearest(name, names, most)


def nearest(word: str, words: Iterable[str], most: int = 3, cutoff: float = 0.6, whole: bool = False) -> list[str]:
    """Give the words nearest to ``word``, the nearest first.

    Args:
        word: what was written.
        words: what may be written.
        most: how many to give at most.
        cutoff: the least likeness, from 0 to 1.
        whole: compare also what stands before the last dot; otherwise it is taken for a scope.

    Returns:
        Some of ``words``; capitals do not count.
    """
    plain: dict[str, list[str]] = {}
    for one in words:
        plain.setdefault((one if whole else one.rpartition(".")[2]).lower(), []).append(one)
    asked = (word if whole else word.rpartition(".")[2]).lower()
    close = difflib.get_close_matches(asked, plain, n=most, cutoff=cutoff)
    return list(dict.fromkeys(original for match in close for original in plain[match]))[:most]


def _or(names: list[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)
