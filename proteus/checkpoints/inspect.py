"""Print the contents of a weight file, without building a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from os.path import isdir
from pathlib import Path
from typing import Any

from torch import Tensor

from proteus.checkpoints.description import Description, read_description
from proteus.checkpoints.detect_arch import Shape, detect_arch
from proteus.checkpoints.keys import find_backbone, to_timm_keys
from proteus.checkpoints.load import open_weights
from proteus.checkpoints.parts import check_values, part_names, take_part
from proteus.checkpoints.paths import MODEL_FILES, locate, split_part
from proteus.utils.text import printable

# Licences of the weights that the authors of each family published; weights of others have the same names.
_LICENCES = {
    "DINOv2": "Apache-2.0 if these are Meta's weights",
    "DINOv3": "DINOv3 License if these are Meta's weights",
    "CLIP": "MIT if these are OpenAI's weights",
}


def inspect_file(path: str | Path) -> str:
    """Describe a weight file, or that of a model folder, for the terminal.

    Raises:
        CheckpointError: The file cannot be read as weights, or its description is not valid.
    """
    file, part = locate(path), split_part(path)[1]
    if isdir(file):  # unlike Path.is_dir, also of a name that is too long
        file = next((file / name for name in MODEL_FILES if (file / name).is_file()), file)
    description = read_description(file)
    content = open_weights(file)
    state = take_part(content, part, file)
    check_values(state, file)
    count = sum(value.numel() for value in state.values())
    dtypes = sorted({str(value.dtype).removeprefix("torch.") for value in state.values()})
    lines = [f"{printable(str(path))}: {len(state)} tensors, {count / 1e6:.2f} M values, {', '.join(dtypes)}"]
    others = _other_entries(content)
    lines += [_row("also holds", ", ".join(others))] if others else []
    found, renamed = find_backbone(state), to_timm_keys(state)
    shape = detect_arch(renamed)
    if found is None or shape is None:
        names = sorted({key.split(".")[0] for key in state})
        lines.append(_row("family", f"no ViT; names begin with {', '.join(names[:8])}"))
    else:
        lines += _backbone(shape, found[1])
        lines.append(_row("names", _names(state, found[0].name, shape)))
        heads = _heads(state, found[1])
        lines += [_row("heads", head) for head in heads] or [_row("heads", "none")]
    lines.append(_row("parts", ", ".join(f"#{part}" for part in part_names(content, file)) or "single model"))
    if description is not None:
        lines += _described(description)
    licence = _LICENCES.get(shape.family) if shape is not None and description is None else None
    unknown = "not in the file; its teacher is named above" if description and description.teacher else ""
    lines.append(_row("licence", licence or unknown or "not known from the file"))
    return "\n".join(lines)


def _backbone(shape: Shape, prefix: str) -> list[str]:
    mlp = "gated (SwiGLU)" if shape.swiglu else "plain"
    classes = f", classifier of {shape.classifier} classes" if shape.classifier else ""
    absent = "rotary" if shape.family == "DINOv3" else "none"
    learnt = absent if shape.side is None else f"{shape.side}x{shape.side}, {shape.side * shape.patch} px"
    lines = [
        _row("family", f"{shape.title}{f', under {prefix}*' if prefix else ''}{classes}"),
        _row("size", f"width {shape.width}, {shape.depth} blocks, {mlp} MLP"),
        _row("patch", f"{shape.patch} px, positions {learnt}"),
        _row("registers", str(shape.registers)),
        _row("LayerScale", "yes" if shape.layer_scale else "no: init_values=None"),
        _row("mask token", "yes" if shape.mask_token else "no"),
    ]
    if shape.pre_norm:
        lines.append(_row("activation", "not known from weights: QuickGELU in OpenAI's, GELU in most of open_clip's"))
    return lines


def _described(description: Description) -> list[str]:
    """Format the description in the file."""
    rows = {
        "architecture": description.architecture,
        "images": f"{description.img_size} px" if description.img_size else "",
        "teacher": description.teacher,
        "converted to": description.converted_to,
        "from": description.converted_from,
    }
    return [_row(title, text) for title, text in rows.items() if text]


def _names(state: Mapping[str, Tensor], name: str, shape: Shape) -> str:
    if name != "timm":
        return name
    if shape.family == "DINOv3":
        return "Meta's DINOv3" if any(key.endswith("storage_tokens") for key in state) else "timm"
    if any("patch_embed.projection" in key for key in state):
        return "mmpretrain" if any(key.endswith("ln1.weight") for key in state if "layers." not in key) else "mmseg"
    if any(key.endswith(("register_tokens", "mlp.w12.weight")) for key in state):
        return "Meta's DINOv2"
    return "timm and Meta's DINOv2, which agree here" if shape.family == "DINOv2" else "timm"


def _heads(state: Mapping[str, Tensor], prefix: str) -> list[str]:
    """Format the heads outside the backbone: ``token_head: 384 -> 768``."""
    heads: dict[str, list[Tensor]] = defaultdict(list)
    for key, value in state.items():
        if "head" in key and not key.startswith(prefix or "\0") and key.endswith("weight") and value.ndim == 2:
            heads[key.rsplit(".", 2)[0]].append(value)
    return [
        f"{name}: {' -> '.join(str(n) for n in [layers[0].shape[1], *(layer.shape[0] for layer in layers)])}"
        for name, layers in heads.items()
    ]


def _other_entries(content: Any) -> list[str]:
    """Return the top-level entries of a checkpoint that are not tensors."""
    entries = content.items() if isinstance(content, Mapping) else ()
    return [str(key) for key, value in entries if not isinstance(value, Tensor)]


def _row(title: str, text: str) -> str:
    return f"  {title:<14}{printable(text)}"
