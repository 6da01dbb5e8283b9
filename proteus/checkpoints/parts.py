"""Choose which model in a weight file to read.

The rule:

1. ``file.pth#NAME`` names a part: an entry of the checkpoint (``model_ema``), or the prefix of the names of its
   weights (``teacher``, ``student_embedding_model``, ``model.backbone``). ``#ema`` is the average of the weights,
   wherever the toolbox keeps it. An unknown name is an error that lists the names in the file.
2. Without a name, ``state_dict``, ``model``, ``teacher`` and ``student`` are looked up in this order, then an average,
   then the only entry with tensors. Where several others hold tensors the file is refused, and they are listed.
3. Of the models within (see :func:`proteus.checkpoints.keys.find_backbone`), the trained student is taken, as the paper
   takes it; else what has no prefix; else the only one other than ``teacher``. Otherwise the file is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proteus.checkpoints.errors import CheckpointError, shown
from proteus.checkpoints.keys import Weights, backbone_prefixes, without_wrappers
from proteus.utils.text import printable

PARTS = ("student", "teacher", "ema")
"""Parts that every training checkpoint may have."""
_NESTS = ("state_dict", "model", "teacher", "student")
_EMA_NESTS = ("model_ema", "ema_state_dict", "state_dict_ema", "ema", "ema_model", "model_ema_state_dict")
_LONGEST_NAME = 1000


def take_part(content: Any, part: str | None, path: Path) -> Weights:
    """Take one model's tensors out of what a weight file holds; see the module for the rule.

    Raises:
        CheckpointError: The file has no tensors or lacks the part, or has several models and no part is named.
    """
    entry, chosen = _choose(content, part)
    entry = _unwrapped(entry)
    items = entry.items() if isinstance(entry, Mapping) else ()
    tensors = {_name(key, path): value for key, value in items if isinstance(value, Tensor)}
    tensors = without_wrappers(tensors, path)
    if not tensors:
        groups = _groups(content)
        if len(groups) > 1:
            raise CheckpointError(f"{path} holds several models ({_listed(groups)}): {_remedy(path, groups)}")
        raise CheckpointError(f"{path} holds no tensors by name: expected a state dict")
    if part is not None and not chosen:
        tensors = _under(tensors, part)
        if not tensors:
            there = part_names(content, path)
            instead = f", or name one of {_listed(there)}" if there else ""
            raise CheckpointError(f"{path} holds nothing called {part}: leave '#{part}' off its name{instead}")
    return Weights(tensors, str(path))


def part_names(content: Any, path: Path) -> list[str]:
    """Return the names that a user may write after ``#`` for this file."""
    found = [part for part in PARTS if _has(content, part, path)]
    found += [name for name in _groups(content) if name not in (*found, "state_dict", "model", *_EMA_NESTS)]
    try:
        prefixes = backbone_prefixes(take_part(content, None, path))
    except CheckpointError:
        return found
    stems = [prefix.removesuffix(".").removesuffix(".vit") for prefix in prefixes if prefix]
    if len(prefixes) > 1:
        found += [stem for stem in stems if not set(stem.split(".")) & set(found)]
    return found


def check_values(state: Mapping[str, Tensor], source: str | Path) -> None:
    """Check that tensors are plain and finite.

    Raises:
        CheckpointError: Names the first tensor that is sparse, quantised, empty of data or not finite.
    """
    for key, value in state.items():
        if value.is_quantized or value.is_nested or value.layout != torch.strided:
            kind = "quantised" if value.is_quantized else "nested" if value.is_nested else "sparse"
            raise CheckpointError(f"{source}: {key} is a {kind} tensor; save it dense, in floating point")
        if value.is_meta:
            raise CheckpointError(f"{source}: {key} is on the meta device and has no values; save the real weights")
        # With a stride of 0, a few bytes can claim any size.
        if value.numel() * value.element_size() > max(value.untyped_storage().nbytes(), _REPEATED):
            raise CheckpointError(f"{source}: {key} of shape {tuple(value.shape)} is larger than what the file holds")
        # OpenAI's CLIP keeps the mask of its text tower's attention, -inf above the diagonal, among its weights.
        if (value.is_floating_point() or value.is_complex()) and not key.endswith("attn_mask"):
            finite = torch.isfinite(value if value.element_size() > 1 else value.float())
            if not bool(finite.all()):
                count = value.numel() - int(finite.sum())
                raise CheckpointError(
                    f"{source}: {key} holds {count:,} of {value.numel():,} values that are NaN or infinite; the "
                    "training that wrote it diverged: take an earlier checkpoint"
                )


_REPEATED = 1 << 26


def _choose(content: Any, part: str | None) -> tuple[Any, bool]:
    """Return the entry of a checkpoint with the part, and True; otherwise the whole checkpoint, and False."""
    if not isinstance(content, Mapping):
        return content, False
    # MMEngine's EMAHook stores the average under state_dict and the weights under ema_state_dict. Other toolboxes rely
    # on that; for a distillation, the trained student is taken unless the average is asked for.
    weights, average = content.get("state_dict"), content.get("ema_state_dict")
    keys = [str(key) for key in weights] if isinstance(weights, Mapping) else []
    swapped = isinstance(weights, Mapping) and isinstance(average, Mapping)
    if part == "ema":
        nests = ("state_dict",) if swapped else _EMA_NESTS
        nest = next((nest for nest in nests if isinstance(content.get(nest), Mapping)), None)
        return (content, False) if nest is None else (content[nest], True)
    if part is not None and part not in ("student", "teacher") and isinstance(content.get(part), Mapping):
        return content[part], True
    if swapped and any("student" in key.split(".") for key in keys):
        return average, False
    if part is not None and isinstance(content.get(part), Mapping):
        return content[part], True
    return content, False


def _unwrapped(content: Any) -> Any:
    """Follow the names under which toolboxes nest the weights."""
    for nest in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
    if not isinstance(content, Mapping) or any(isinstance(value, Tensor) for value in content.values()):
        return content
    groups = _groups(content)
    average = next((nest for nest in _EMA_NESTS if nest in groups), None)
    if average is not None:
        return content[average]
    return content[groups[0]] if len(groups) == 1 else content


def _groups(content: Any) -> list[str]:
    """Entries of a checkpoint that hold tensors by name."""
    if not isinstance(content, Mapping):
        return []
    return [
        key
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Mapping) and _holds_tensors(value)
    ]


def _holds_tensors(value: Mapping[Any, Any]) -> bool:
    return any(isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items())


def _has(content: Any, part: str, path: Path) -> bool:
    entry, chosen = _choose(content, part)
    entry = _unwrapped(entry)
    names = (
        [str(key) for key, value in entry.items() if isinstance(value, Tensor)] if isinstance(entry, Mapping) else []
    )
    return bool(names) if chosen else bool(_under(dict.fromkeys(names), part))


def _under(tensors: Mapping[str, Any], part: str) -> dict[str, Any]:
    """The tensors under a prefix; that is the part's name, or begins with it (``student_embedding_model``)."""
    for matches in (
        lambda key: key.startswith(f"{part}.") or part in key.split(".")[:-1],
        lambda key: any(name.startswith(f"{part}_") for name in key.split(".")[:-1]),
    ):
        found = {key: value for key, value in tensors.items() if matches(key)}
        if found:
            return found
    return {}


def _name(key: Any, path: Path) -> str:
    if not isinstance(key, str) or not key.isprintable() or len(key) > _LONGEST_NAME:
        raise CheckpointError(f"{path}: {shown(key)} is not the name of a tensor; expected plain text")
    return key


def _listed(names: list[str]) -> str:
    return ", ".join(f"#{printable(name, 100)}" for name in names)


def _remedy(path: Path, names: list[str]) -> str:
    return f"write which, such as {path}#{printable(names[0], 100)}"
