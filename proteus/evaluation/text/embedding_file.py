"""Text embeddings that were computed elsewhere, in a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from proteus.evaluation.text.prompts import ensemble
from proteus.structures import DataError
from proteus.utils import load_npy
from proteus.utils.files import read_lines

_REMEDIES = {
    "class": "write the names of the class folders, or name the classes with protocol.names",
    "caption": "embed the captions as they are in the data set",
}
_SEVERAL = {"class": "classes", "caption": "captions"}
_LINES = {"class": "names", "caption": "captions"}
_SAME = 1e-3  # two rows of one text may differ in half precision, or by the batch that they were computed in


def read_text_embeddings(path: str | Path, texts: Sequence[str], kind: Literal["class", "caption"] = "class") -> Tensor:
    """Read the embeddings of class names or captions; no code in the file is run.

    ``FILE.safetensors`` has one tensor for each text, under that text: ``(D,)``, or ``(P, D)`` of ``P`` prompts.
    ``FILE.npy`` holds ``(N, D)`` or ``(N, P, D)``, and ``FILE.txt`` next to it the texts, one per line. Underscores
    count as spaces, and any white space as one space. Several prompts are averaged by :func:`ensemble`.

    Args:
        path: The file. It may have more texts than ``texts``.
        texts: Class names in the order of their labels, or captions; repeated ones get the same embedding.
        kind: What the texts are, for messages.

    Returns:
        ``(len(texts), D)`` float32, of length 1.

    Raises:
        FileNotFoundError: The file, or that with the texts, does not exist.
        DataError: The file is damaged, a text is missing or has two embeddings, or an array has an unexpected shape or
            value.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{kind} embeddings: {path} is missing")
    if path.suffix not in (".safetensors", ".npy"):
        raise DataError(f"{kind} embeddings: {path} should be a .safetensors or .npy file")
    rows = _of_safetensors(path) if path.suffix == ".safetensors" else _of_npy(path, kind)
    wanted = [_plain(text) for text in texts]
    found = _by_text(path, rows, set(wanted))
    missing = [text for text in dict.fromkeys(wanted) if text not in found]
    if missing:
        known = ", ".join(repr(text) for text, _ in rows[:5]) + (", ..." if len(rows) > 5 else "")
        raise DataError(
            f"{path} has no {kind} {missing[0]!r} ({len(missing)} of {len(set(wanted))} {_SEVERAL[kind]} are missing); "
            f"it has {known}: {_REMEDIES[kind]}"
        )
    widths = sorted({len(each) for each in found.values()})
    if len(widths) > 1:
        raise DataError(f"{path} has {kind} embeddings of widths {widths}: one text tower has one width")
    return torch.stack([found[text] for text in wanted])


def _of_safetensors(path: Path) -> list[tuple[str, Tensor]]:
    try:
        state = load_file(path)
    except Exception as error:  # safetensors raises a type that it does not export
        raise DataError(f"{path} cannot be read as safetensors ({' '.join(str(error).split())})") from error
    return [(_plain(text), value) for text, value in state.items()]


def _of_npy(path: Path, kind: str) -> list[tuple[str, Tensor]]:
    table = load_npy(path, mapped=False)
    listed = path.with_suffix(".txt")
    if not listed.is_file():
        raise FileNotFoundError(f"{kind} embeddings: {listed} is missing; it has the text of each row of {path}")
    texts = [_plain(line) for line in read_lines(listed, strict=True) if line.strip()]
    if table.dtype.kind != "f" or table.ndim not in (2, 3) or len(table) != len(texts):
        raise DataError(
            f"{path} holds {table.dtype} of shape {table.shape}, and {listed} {len(texts)} {_LINES[kind]}: expected "
            f"floats ({len(texts)}, D), or ({len(texts)}, P, D) of P prompts"
        )
    return list(zip(texts, torch.from_numpy(table.astype("float32")), strict=True))


def _by_text(path: Path, rows: Iterable[tuple[str, Tensor]], wanted: set[str]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for text, value in rows:
        if text not in wanted:
            continue
        embedding = _checked(path, text, value)
        earlier = found.setdefault(text, embedding)
        if earlier.shape != embedding.shape or not torch.allclose(earlier, embedding, atol=_SAME):
            raise DataError(f"{path} has two embeddings of {text!r} that differ: keep one of them")
    return found


def _checked(path: Path, text: str, value: Tensor) -> Tensor:
    if not value.is_floating_point() or value.ndim not in (1, 2) or 0 in value.shape:
        raise DataError(
            f"{path}: {text!r} is {value.dtype} of shape {tuple(value.shape)}: expected floats (D,), or "
            "(P, D) of P prompts"
        )
    value = value.float()
    if not value.isfinite().all() or not value.any(dim=-1).all():
        raise DataError(f"{path}: the embedding of {text!r} has a value that is not finite, or is all zeros")
    return ensemble(value if value.ndim == 2 else value[None])


def _plain(text: str) -> str:
    return " ".join(text.replace("_", " ").split())
