"""Names and colours of a data set's classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS

from proteus.structures import DataError
from proteus.utils.files import read_lines


def meta_of_config(dataset: Mapping[str, Any], scope: str | None = None) -> dict[str, Any]:
    """Return the class names and colours of a data set from its class and its config, without building it.

    Args:
        dataset: Config of the set.
        scope: Registry scope of the set's name; default: the current scope.

    Returns:
        ``classes`` and ``palette``, as far as they are known.
    """
    kind = dataset.get("type")
    with DATASETS.switch_scope_and_registry(dataset.get("_scope_") or scope) as registry:
        target = registry.get(kind) if isinstance(kind, str) else kind
    own = dict(getattr(target, "METAINFO", {}))
    written = {key: value for key, value in dict(dataset.get("metainfo") or {}).items() if value}
    if isinstance(written.get("classes"), (str, Path)):  # MMEngine reads a file here
        written["classes"] = read_lines(Path(written["classes"]))
    if "classes" in written and "palette" not in written:
        # A subset of the classes keeps the colours of the full set.
        colours = dict(zip(own.get("classes") or (), own.get("palette") or (), strict=False))
        names = list(written["classes"])
        own["palette"] = [colours[name] for name in names] if all(name in colours for name in names) else None
    return {**own, **written}


def names_and_colours(
    meta: Mapping[str, Any], count: int | None = None, names: Sequence[str] | None = None, key: str = "the data set"
) -> tuple[list[str], list[list[int]]]:
    """Complete and check the names and colours of the classes.

    Args:
        meta: ``classes`` and ``palette``, either of which may be missing.
        count: Number of classes of the model, if known.
        names: Names that replace those of ``meta``.
        key: Config key of ``meta``, for messages.

    Returns:
        The names, by default numbers; and RGB colours from 0 to 255, by default random but reproducible.

    Raises:
        DataError: The numbers of names, colours and the model's classes differ.
    """
    known = list(meta.get("classes") or ())
    if names is not None:
        if count is not None and len(names) != count:
            raise DataError(f"--classes has {len(names)} classes, but the model has {count}")
        known = list(names)
    elif known and count is not None and len(known) != count:
        raise DataError(
            f"{key} has {len(known)} classes, but the model has {count}: correct metainfo.classes or "
            "model.decode_head.num_classes, or give --classes FILE"
        )
    known = [str(name) for name in known or range(count or 0)]
    palette = [list(map(int, colour)) for colour in meta.get("palette") or ()]
    if palette and len(palette) != len(known):
        if names is None and meta.get("classes"):
            raise DataError(f"{key} has {len(known)} classes and {len(palette)} colours: correct metainfo.palette")
        palette = []
    return known, palette or np.random.default_rng(0).integers(40, 256, (len(known), 3)).tolist()
