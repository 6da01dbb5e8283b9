"""The same weights under the names that different projects give them.

timm's names are the ones used inside; the others are recognised by a key that only they have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from proteus.checkpoints import tables
from proteus.checkpoints.read import CheckpointError
from proteus.checkpoints.renaming import Row, to_ours


class Form(NamedTuple):
    """A way to name a ViT's weights.

    Attributes:
        name: For messages.
        mark: The name of its cls token, by which it is found.
        table: How its names read in timm's.
    """

    name: str
    mark: str
    table: tuple[Row, ...]


# Longest mark first: each is the end of one before it.
FORMS = (
    Form("Hugging Face CLIP", "embeddings.class_embedding", tables.HUGGING_FACE_CLIP),
    Form(
        "Hugging Face",
        "embeddings.cls_token",
        tables.HUGGING_FACE_TRUNK
        + tables.HUGGING_FACE_DINOV2
        + tables.HUGGING_FACE_MLP
        + tables.HUGGING_FACE_SWIGLU
        + tables.HUGGING_FACE_VIT
        + tables.HUGGING_FACE_IN_MEMORY,
    ),
    Form("OpenAI CLIP", "class_embedding", tables.OPENAI),
    Form(
        "timm",
        "cls_token",
        tables.META
        + tables.META_SWIGLU
        + tables.OPENMMLAB
        + tables.OPENMMLAB_MLP
        + tables.OPENMMLAB_SWIGLU
        + tables.MMPRETRAIN
        + tables.MMSEG,
    ),
)
CLASSIFIER = ("head.weight", "head.bias")
"""timm's names for a ViT's linear classifier, or for CLIP's projection."""
# CLIP's projection to the space it shares with text, and a constant that older files hold.
_NO_BACKBONE = ("proj", "embeddings.position_ids")


def to_timm_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a ViT's weights to timm's names, whatever project they come from.

    Known forms: timm's own; Meta's DINOv2 ``.pth``; ``transformers``' ``Dinov2Model``, ``ViTModel`` and the vision
    tower of its ``CLIPModel``; OpenAI's and open_clip's CLIP; mmpretrain's; mmsegmentation's as Proteus' release
    converts to it; SynCLR's; our exported backbones. Whatever stands before the backbone's names is taken off, and
    what lies outside the backbone (heads, a text tower) is left behind. Of a checkpoint with student and teacher the
    student is taken. Unknown names pass unchanged, so that :func:`load_strictly` can name them.
    """
    found = find_backbone(state)
    if found is None:
        return dict(state)
    form, prefix = found
    inside = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    inside = {key: value for key, value in inside.items() if key not in _NO_BACKBONE}
    # The mask token belongs to our wrapper, one level above timm's model.
    mask_token = state.get(prefix.removesuffix("vit.") + "mask_token")
    if mask_token is not None:
        inside["mask_token"] = mask_token
    return to_ours(inside, form.table)


def find_backbone(state: Iterable[str]) -> tuple[Form, str] | None:
    """Find a ViT among the names of a state dict.

    Returns:
        How it is named, and what stands before its names; None where there is no ViT.

    Raises:
        CheckpointError: There are several students, none of which comes before the others.
    """
    keys, taken = list(state), set()
    candidates = []
    for form in FORMS:
        for key in keys:
            if key not in taken and (key == form.mark or key.endswith(f".{form.mark}")):
                taken.add(key)
                candidates.append((form, key.removesuffix(form.mark)))
    _refuse_several(prefix for _, prefix in candidates)
    return min(candidates, key=lambda candidate: _rank(candidate[1]), default=None)


def take_named_like(own: Iterable[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the part of ``state`` that has the names ``own`` behind some prefix; all of it where no part has."""
    first = next(iter(own))
    prefixes = [key.removesuffix(first) for key in state if key == first or key.endswith(f".{first}")]
    _refuse_several(prefixes)
    prefix = min(prefixes, key=_rank, default="")
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def _refuse_several(prefixes: Iterable[str]) -> None:
    names = {prefix.rpartition("students.")[2].split(".")[0] for prefix in prefixes if "students." in prefix}
    if len(names) > 1:
        listed = ", ".join(sorted(names))
        raise CheckpointError(
            f"the checkpoint holds several students ({listed}): give the file that the run wrote for one of them, "
            f"student_{min(names)}.safetensors"
        )


def _rank(prefix: str) -> tuple[bool, bool, int]:
    parts = prefix.split(".")
    return "teacher" in parts, "student" not in parts, len(prefix)
