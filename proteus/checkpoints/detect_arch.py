"""Detect the architecture of a ViT from its weights, without building a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

_LETTERS = {192: "Ti", 384: "S", 768: "B", 1024: "L", 1280: "H", 1536: "g"}


@dataclass(frozen=True)
class Shape:
    """Architecture of a ViT, as far as weights show it.

    Attributes:
        width: Width of the tokens.
        depth: Number of blocks.
        patch: Side of a patch in pixels.
        registers: Number of register tokens.
        side: Patches along a side of the square grid of the position embedding; None without one.
        layer_scale: Whether blocks have LayerScale.
        pre_norm: Whether a LayerNorm precedes the first block, as in CLIP.
        swiglu: Whether the MLPs are gated.
        mask_token: Whether there is a mask token.
        classifier: Number of classes of a linear classifier on top of the backbone; None without one.
        gammas: Whether LayerScale is named ``gamma_1`` and ``gamma_2``, as timm names it in BEiT, CaiT and DINOv3.
    """

    width: int
    depth: int
    patch: int
    registers: int
    side: int | None
    layer_scale: bool
    pre_norm: bool
    swiglu: bool
    mask_token: bool
    classifier: int | None
    gammas: bool = False

    @property
    def family(self) -> str:
        """``CLIP``, ``DINOv2``, ``DINOv3`` or ``plain``: the family of the architecture, whoever trained it."""
        if self.pre_norm:
            return "CLIP"
        if self.layer_scale and self.registers and self.side is None:
            return "DINOv3"
        return "DINOv2" if self.layer_scale and not self.gammas else "plain"

    @property
    def title(self) -> str:
        """Short name such as ``DINOv2 ViT-S/14``, with the width if no letter stands for it."""
        return f"{self.family} ViT-{_LETTERS.get(self.width, self.width)}/{self.patch}"


def detect_arch(state: Mapping[str, Tensor]) -> Shape | None:
    """Detect the architecture of weights with timm's names; None if they are not a ViT."""
    if "cls_token" not in state or "patch_embed.proj.weight" not in state:
        return None
    projection = state["patch_embed.proj.weight"].shape
    if len(projection) != 4:
        return None
    first, second = state.get("blocks.0.mlp.fc1.weight"), state.get("blocks.0.mlp.fc2.weight")
    positions, classifier = state.get("pos_embed"), state.get("head.weight")
    registers = state.get("reg_token", state.get("storage_tokens"))  # the second is Meta's DINOv3
    gammas = "blocks.0.gamma_1" in state
    return Shape(
        width=projection[0],
        depth=len({key.split(".")[1] for key in state if key.startswith("blocks.")}),
        patch=projection[-1],
        registers=registers.shape[1] if registers is not None and registers.ndim == 3 else 0,
        side=math.isqrt(positions.shape[1]) if positions is not None and positions.ndim == 3 else None,
        layer_scale="blocks.0.ls1.gamma" in state or gammas,
        pre_norm="norm_pre.weight" in state,
        swiglu="blocks.0.mlp.fc1_g.weight" in state
        or "blocks.0.mlp.w1.weight" in state
        or (first is not None and second is not None and first.shape[:1] == _doubled(second.shape[1:2])),
        mask_token="mask_token" in state,
        classifier=classifier.shape[0] if classifier is not None and classifier.ndim else None,
        gammas=gammas,
    )


def _doubled(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(2 * length for length in shape)


def describe(state: Mapping[str, Tensor]) -> str:
    """Describe the architecture of weights with timm's names in a few words."""
    stem = next((key.removesuffix("cls_token") for key in state if key.endswith("cls_token")), "")
    shape = detect_arch({key.removeprefix(stem): value for key, value in state.items()})
    if shape is None:
        return f"{len(state)} tensors, no ViT"
    words = f"ViT of width {shape.width}, {shape.depth} blocks, patch {shape.patch}, {shape.registers} registers"
    if shape.pre_norm:
        return f"CLIP {words}"
    return words if shape.layer_scale else f"{words}, no LayerScale"
