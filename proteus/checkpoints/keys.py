"""Rename weights from the naming schemes of different projects to timm's, which is used internally.

Each scheme is recognised by a key that only it has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from proteus.checkpoints import key_mappings
from proteus.checkpoints.errors import CheckpointError
from proteus.checkpoints.key_mappings import Row, to_ours


class Form(NamedTuple):
    """A naming scheme of a ViT's weights.

    Attributes:
        name: For messages.
        mark: Name of the cls token, by which the scheme is recognised.
        table: Its names and timm's.
    """

    name: str
    mark: str
    table: tuple[Row, ...]


# Longest mark first, since each mark is a suffix of an earlier one.
FORMS = (
    Form("Hugging Face CLIP", "embeddings.class_embedding", key_mappings.HUGGING_FACE_CLIP),
    Form(
        "Hugging Face",
        "embeddings.cls_token",
        key_mappings.HUGGING_FACE_TRUNK
        + key_mappings.HUGGING_FACE_DINOV2
        + key_mappings.HUGGING_FACE_MLP
        + key_mappings.HUGGING_FACE_SWIGLU
        + key_mappings.HUGGING_FACE_VIT
        + key_mappings.HUGGING_FACE_IN_MEMORY
        + key_mappings.HUGGING_FACE_DINOV3
        + key_mappings.HUGGING_FACE_DINOV3_MLP
        + key_mappings.HUGGING_FACE_DINOV3_SWIGLU,
    ),
    Form("OpenAI CLIP", "class_embedding", key_mappings.OPENAI),
    Form(
        "timm",
        "cls_token",
        key_mappings.META
        + key_mappings.META_SWIGLU
        + key_mappings.OPENMMLAB
        + key_mappings.OPENMMLAB_MLP
        + key_mappings.OPENMMLAB_SWIGLU
        + key_mappings.MMPRETRAIN
        + key_mappings.MMSEG
        + key_mappings.MMSEG_VIT,
    ),
)
CLASSIFIER = ("head.weight", "head.bias")
"""timm's names for a ViT's linear classifier, or for CLIP's projection."""
# CLIP's projection to the space shared with text, and a constant in older files.
_NO_BACKBONE = ("proj", "embeddings.position_ids")


# Wrapper modules that add their name to the names of weights: torch.compile, FSDP, activation checkpointing.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module"}
# Meta's training code keeps blocks in chunks for FSDP: blocks.1.6 is block 6, in chunk 1.
_CHUNKED = re.compile(r"blocks\.\d+\.(\d+)\.((?:norm1|attn|ls1|norm2|mlp|ls2)\..+)")
# transformers 5 in memory: model.layer.0 of DINOv3ViTModel is layer.0 in its files.
_IN_MEMORY = re.compile(r"model\.(layer\.\d+\..+)")
# Required number of axes of some tensors.
_AXES = {"cls_token": 3, "pos_embed": 3, "reg_token": 3, "patch_embed.proj.weight": 4}


KeyConverter = Callable[[Iterable[str], Mapping[str, Tensor]], dict[str, Tensor]]
_CONVERTERS: list[KeyConverter] = []


def register_key_converter(converter: KeyConverter) -> KeyConverter:
    """Add names that weights of a CNN or of another toolbox's backbone may have in files; a decorator.

    Args:
        converter: Takes the model's own names and the weights of a file; returns the weights under the model's names,
            or unchanged if it does not recognise them.
    """
    _CONVERTERS.append(converter)
    return converter


class Weights(dict[str, Tensor]):
    """State dict with the path of its file.

    Args:
        tensors: Tensors by name.
        source: The file, for messages.
    """

    def __init__(self, tensors: Mapping[str, Tensor], source: str) -> None:
        super().__init__(tensors)
        self.source = source


def without_wrappers(state: Mapping[str, Tensor], source: str | Path) -> dict[str, Tensor]:
    """Remove the names of wrapper modules (torch.compile, FSDP, activation checkpointing) from names of weights.

    Raises:
        CheckpointError: The weights are FSDP's flat shards.
    """
    flat = next((key for key in state if key.rpartition(".")[2].startswith("_flat_param")), None)
    if flat is not None:
        raise CheckpointError(
            f"{source} holds FSDP's flat shards of one process ({flat}): save a full state dict "
            "(StateDictType.FULL_STATE_DICT), or take the file that the training wrote for evaluation"
        )
    if not any(name in key for key in state for name in _WRAPPERS):
        return dict(state)
    return {".".join(name for name in key.split(".") if name not in _WRAPPERS): value for key, value in state.items()}


def to_timm_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a ViT's weights to timm's names, whatever project they come from.

    Known schemes: timm; Meta's DINOv2, as released and as its training code writes it, with blocks in chunks;
    ``Dinov2Model``, ``DINOv3ViTModel``, ``ViTModel`` and the vision tower of ``CLIPModel`` in ``transformers``;
    OpenAI's and open_clip's CLIP; mmpretrain; ``VisionTransformer`` of mmsegmentation, and its ``MAE`` as Proteus'
    release converts to it; SynCLR; our exported backbones. The prefix of the backbone's names is removed, and weights
    outside the backbone (heads, a text tower) are dropped. If a checkpoint has student and teacher, the student is
    taken. Unknown names stay unchanged, so that :func:`load_strictly` can report them.

    Raises:
        CheckpointError: The file holds several models and the rule prefers none of them, or a tensor has a shape that
            no ViT has.
    """
    found = find_backbone(state)
    if found is None:
        return dict(state)
    form, prefix = found
    inside = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    inside = {_unchunked(key): value for key, value in inside.items() if key not in _NO_BACKBONE}
    # The mask token belongs to our wrapper, one level above timm's model.
    mask_token = state.get(prefix.removesuffix("vit.") + "mask_token")
    if mask_token is not None:
        inside["mask_token"] = mask_token
    source, table = getattr(state, "source", "the checkpoint"), form.table
    if any(".mlp.gate_proj." in key for key in inside):  # first match wins
        table = key_mappings.HUGGING_FACE_DINOV3_SWIGLU + table
    try:
        renamed = to_ours(inside, table)
    except (RuntimeError, IndexError) as error:
        raise CheckpointError(f"{source} holds parts of one tensor that do not fit each other ({error})") from error
    return _checked(renamed, source)


def find_backbone(state: Iterable[str]) -> tuple[Form, str] | None:
    """Find a ViT among the names of a state dict.

    Returns:
        Its naming scheme and the prefix of its names; None if the file holds no ViT.

    Raises:
        CheckpointError: The file holds several ViTs and the rule prefers none of them.
    """
    candidates = _candidates(state)
    if not candidates:
        return None
    prefix = _choose_prefix([prefix for _, prefix in candidates], getattr(state, "source", "the checkpoint"))
    return next(candidate for candidate in candidates if candidate[1] == prefix)


def backbone_prefixes(state: Iterable[str]) -> list[str]:
    """Return the prefix of each ViT in a state dict."""
    return [prefix for _, prefix in _candidates(state)]


def take_named_like(own: Iterable[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the weights of ``state`` that have the names ``own`` after a common prefix; all weights if none have them.

    Registered converters rename the weights first; see :func:`register_key_converter`.

    Raises:
        CheckpointError: Several parts have them and the rule prefers none.
    """
    own = list(own)
    source = getattr(state, "source", "the checkpoint")
    for converter in _CONVERTERS:
        state = converter(own, state)
    found = [key.removesuffix(own[0]) for key in state if key == own[0] or key.endswith(f".{own[0]}")]
    whole = [prefix for prefix in found if all(prefix + key in state for key in own)]
    # If names are missing, take the outermost part; loading reports what is missing.
    prefix = _choose_prefix(whole, source) if whole else min(found, key=len, default="")
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def _candidates(state: Iterable[str]) -> list[tuple[Form, str]]:
    keys, taken = list(state), set()
    candidates = []
    for form in FORMS:
        for key in keys:
            if key not in taken and (key == form.mark or key.endswith(f".{form.mark}")):
                taken.add(key)
                candidates.append((form, key.removesuffix(form.mark)))
    return candidates


def _choose_prefix(prefixes: list[str], source: str) -> str:
    """Choose one of several models in a file; see :mod:`proteus.checkpoints.parts` for the rule."""
    names = {prefix.rpartition("students.")[2].split(".")[0] for prefix in prefixes if "students." in prefix}
    if len(names) > 1:
        listed = ", ".join(sorted(names))
        raise CheckpointError(
            f"{source} holds several students ({listed}): give the file that the run wrote for one of them, "
            f"student_{min(names)}.safetensors"
        )
    students = [prefix for prefix in prefixes if "student" in prefix.split(".")]
    others = [prefix for prefix in prefixes if "teacher" not in prefix.split(".")]
    for favoured in (students, [prefix for prefix in prefixes if not prefix], others, prefixes):
        if len(favoured) == 1:
            return favoured[0]
    stems = sorted(prefix.removesuffix(".") for prefix in students or prefixes)
    raise CheckpointError(
        f"{source} holds several models ({', '.join(f'#{stem}' for stem in stems)}): write which, such as "
        f"{source}#{stems[0]}"
    )


def _unchunked(key: str) -> str:
    match = _CHUNKED.fullmatch(key)
    if match:
        return f"blocks.{match[1]}.{match[2]}"
    match = _IN_MEMORY.fullmatch(key)
    return match[1] if match else key


def _checked(state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    for key, axes in _AXES.items():
        if key == "pos_embed" and not any(name.startswith("blocks.") for name in state):
            continue  # not a ViT: that of PiT and of VOLO is a map
        if key in state and (state[key].ndim != axes or not state[key].numel()):
            found = tuple(state[key].shape)
            raise CheckpointError(f"{source}: {key} has the shape {found}; expected {axes} axes and at least one value")
    token, mask = state.get("cls_token"), state.get("mask_token")
    if token is not None and mask is not None and mask.numel() != token.shape[-1]:
        raise CheckpointError(
            f"{source}: mask_token has the shape {tuple(mask.shape)}; expected {token.shape[-1]} values"
        )
    return state
