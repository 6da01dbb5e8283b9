"""Class embeddings that were computed elsewhere, in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from proteus.evaluation.text.prompts import ensemble
from proteus.structures import DataError
from proteus.utils import load_npy
from proteus.utils.files import read_lines


def read_class_embeddings(path: str | Path, names: Sequence[str]) -> Tensor:
    """Read the text embeddings of classes; no code in the file is run.

    ``FILE.safetensors`` has one tensor for each class, under the class's name: ``(D,)``, or ``(P, D)`` of ``P``
    prompts. ``FILE.npy`` holds ``(C, D)`` or ``(C, P, D)``, and ``FILE.txt`` next to it the names, one per line.
    Underscores in names count as spaces. Several prompts are averaged by :func:`ensemble`.

    Args:
        path: The file. It may have more classes than ``names``.
        names: Class names in the order of their labels.

    Returns:
        ``(len(names), D)`` float32, of length 1.

    Raises:
        FileNotFoundError: The file, or that with the names, does not exist.
        DataError: The file is damaged, a class is missing, or an array has an unexpected shape or value.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"class embeddings: {path} is missing")
    if path.suffix not in (".safetensors", ".npy"):
        raise DataError(f"class embeddings: {path} should be a .safetensors or .npy file")
    found = _of_safetensors(path) if path.suffix == ".safetensors" else _of_npy(path)
    wanted = [_plain(name) for name in names]
    missing = [name for name in wanted if name not in found]
    if missing:
        known = ", ".join(map(repr, list(found)[:5])) + (", ..." if len(found) > 5 else "")
        raise DataError(
            f"{path} has no class {missing[0]!r} ({len(missing)} of {len(wanted)} classes are missing); it has "
            f"{known}: write the names of the class folders, or name the classes with protocol.names"
        )
    classes = [_checked(path, name, found[name]) for name in wanted]
    widths = sorted({len(each) for each in classes})
    if len(widths) > 1:
        raise DataError(f"{path} has class embeddings of widths {widths}: one text tower has one width")
    return torch.stack(classes)


def _of_safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        state = load_file(path)
    except Exception as error:  # safetensors raises a type that it does not export
        raise DataError(f"{path} cannot be read as safetensors ({' '.join(str(error).split())})") from error
    return {_plain(name): value for name, value in state.items()}


def _of_npy(path: Path) -> Mapping[str, Tensor]:
    table = load_npy(path, mapped=False)
    listed = path.with_suffix(".txt")
    if not listed.is_file():
        raise FileNotFoundError(f"class embeddings: {listed} is missing; it names the rows of {path}, one per line")
    names = [line.strip() for line in read_lines(listed, strict=True) if line.strip()]
    if table.dtype.kind != "f" or table.ndim not in (2, 3) or len(table) != len(names):
        raise DataError(
            f"{path} holds {table.dtype} of shape {table.shape}, and {listed} {len(names)} names: expected floats "
            f"({len(names)}, D), or ({len(names)}, P, D) of P prompts"
        )
    return {_plain(name): torch.from_numpy(row) for name, row in zip(names, table.astype("float32"), strict=True)}


def _checked(path: Path, name: str, value: Tensor) -> Tensor:
    if not value.is_floating_point() or value.ndim not in (1, 2) or 0 in value.shape:
        raise DataError(
            f"{path}: {name!r} is {value.dtype} of shape {tuple(value.shape)}: expected floats (D,), or "
            "(P, D) of P prompts"
        )
    value = value.float()
    if not value.isfinite().all() or not value.any(dim=-1).all():
        raise DataError(f"{path}: the embedding of {name!r} has a value that is not finite, or is all zeros")
    return ensemble(value if value.ndim == 2 else value[None])


def _plain(name: str) -> str:
    return name.replace("_", " ").strip()
