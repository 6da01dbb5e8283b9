"""Code that builds a model for a converted file, in the project that the names come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from proteus.checkpoints.description import Description
from proteus.checkpoints.detect_arch import Shape
from proteus.checkpoints.dinov3_keys import SIZES

# Of published ViTs, by width.
_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1536: 24}
_NAMES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge", 1536: "giant"}


def usage(shape: Shape, form: str, state: Mapping[str, Tensor], description: Description) -> str:
    """Write code that builds a model for a converted file.

    Args:
        shape: Architecture of the weights.
        form: Naming scheme of the file.
        state: The weights under timm's names.
        description: Description of the source file.

    Returns:
        One expression. It has ``num_heads=None`` if the number of heads is unknown.
    """
    heads = description.arguments.get("num_heads", _HEADS.get(shape.width))
    size = 224 if shape.side is None else shape.side * shape.patch
    hidden = _hidden(shape, state)
    if form == "timm":
        return _timm(shape, size, heads, description, state)
    if form == "dinov2":
        return _dinov2(shape, size, heads)
    if form == "hf":
        kind, options = hugging_face_arguments(shape, size, heads, hidden)
        tail = ", add_pooling_layer=False" if kind == "ViT" else ""
        return f"transformers.{kind}Model(transformers.{kind}Config({', '.join(_options(options))}){tail})"
    # OpenAI's and many other CLIPs use QuickGELU; weights alone do not show it.
    quick = shape.pre_norm and "quickgelu" in (description.architecture or "quickgelu")
    if form == "mmpretrain":
        return _dict("mmpretrain.VisionTransformer", **mmpretrain_arguments(shape, size, heads, hidden, quick))
    activation = {"act_cfg": {"type": "mmpretrain.QuickGELU"}} if quick else {}
    norm = {"type": "LN", "eps": 1e-5 if shape.pre_norm else 1e-6}
    sizes: dict[str, Any] = {"img_size": size, "patch_size": shape.patch, "embed_dims": shape.width}
    sizes |= {"num_layers": shape.depth, "num_heads": heads, "mlp_ratio": hidden // shape.width, "norm_cfg": norm}
    if form == "mmseg-vit":
        bias = "patch_embed.proj.bias" in state
        return _dict(
            "mmseg.VisionTransformer", **sizes, patch_bias=bias, pre_norm=shape.pre_norm, final_norm=True, **activation
        )
    if shape.swiglu or shape.pre_norm:
        return f"none of mmseg's: its MAE has no {'gated MLPs' if shape.swiglu else 'LayerNorm before the first block'}"
    return _dict("mmseg.MAE", **sizes, init_values=1.0)


def _timm(shape: Shape, size: int, heads: int | None, description: Description, state: Mapping[str, Tensor]) -> str:
    from timm.models import get_pretrained_cfg  # slow to import

    if description.architecture is not None:
        name, arguments = description.architecture, dict(description.arguments)
    elif shape.family == "DINOv3":
        known = SIZES.get((shape.width, shape.swiglu))
        bias = "_qkvb" if "blocks.0.attn.q_bias" in state else ""
        name = f"vit_{known or ('small_plus' if shape.swiglu else 'small')}_patch16_dinov3{bias}"
        arguments = {"patch_size": shape.patch, "embed_dim": shape.width, "depth": shape.depth}
        arguments |= {"num_reg_tokens": shape.registers, **({} if known else {"num_heads": heads})}
    else:
        name = f"vit_{_NAMES.get(shape.width, 'base')}_patch14_dinov2"
        if shape.pre_norm:
            name = "vit_large_patch14_clip_quickgelu_224"
        elif get_pretrained_cfg(name) is None:  # timm has no tiny DINOv2
            name = "vit_tiny_patch16_224"
        arguments = {"img_size": size, "patch_size": shape.patch, "embed_dim": shape.width, "depth": shape.depth}
        arguments |= {"num_heads": heads, "init_values": 1.0 if shape.layer_scale else 0.0}
        arguments |= {"reg_tokens": shape.registers, "no_embed_class": shape.registers > 0}
    return f"timm.create_model({', '.join([repr(name), *_options({**arguments, 'num_classes': 0})])})"


def _dinov2(shape: Shape, size: int, heads: int | None) -> str:
    options: dict[str, Any] = {"img_size": size, "patch_size": shape.patch, "embed_dim": shape.width}
    options |= {"depth": shape.depth, "num_heads": heads, "num_register_tokens": shape.registers}
    options |= {"init_values": 1.0 if shape.layer_scale else None, "block_chunks": 0}
    options |= {"ffn_layer": "swiglufused"} if shape.swiglu else {}
    return f"dinov2.models.vision_transformer.DinoVisionTransformer({', '.join(_options(options))})"


def mmpretrain_arguments(
    shape: Shape, img_size: int, heads: int | None, hidden: int, quick_gelu: bool = False, eps: float | None = None
) -> dict[str, Any]:
    """Return the arguments of ``mmpretrain.VisionTransformer`` for an architecture.

    Args:
        shape: Architecture without registers.
        img_size: Side of the images in pixels.
        heads: Attention heads.
        hidden: Width of the hidden layer of the MLPs.
        quick_gelu: Whether the MLPs have QuickGELU.
        eps: Epsilon of the LayerNorms; that of the family by default.
    """
    arch = {"embed_dims": shape.width, "num_layers": shape.depth, "num_heads": heads}
    layers: dict[str, Any] = {"ffn_type": "swiglu_fused"} if shape.swiglu else {}
    layers |= {"act_cfg": {"type": "mmpretrain.QuickGELU"}} if quick_gelu else {}
    return {
        # mmpretrain reduces the width of gated MLPs to two thirds.
        "arch": {**arch, "feedforward_channels": hidden * 3 // 2 if shape.swiglu else hidden},
        "img_size": img_size,
        "patch_size": shape.patch,
        "out_type": "raw",
        "pre_norm": shape.pre_norm,
        "norm_cfg": {"type": "LN", "eps": eps or (1e-5 if shape.pre_norm else 1e-6)},
        "layer_scale_init_value": 1.0 if shape.layer_scale else 0.0,
        **({"layer_cfgs": layers} if layers else {}),
    }


def hugging_face_arguments(shape: Shape, img_size: int, heads: int | None, hidden: int) -> tuple[str, dict[str, Any]]:
    """Return a model of ``transformers`` for an architecture, and what differs from the defaults of its config.

    Args:
        shape: Architecture.
        img_size: Side of the images in pixels.
        heads: Attention heads.
        hidden: Width of the hidden layer of the MLPs.

    Returns:
        ``CLIPVision``, ``ViT``, ``Dinov2`` or ``Dinov2WithRegisters``, and arguments of its config.
    """
    options: dict[str, Any] = {"hidden_size": shape.width, "num_hidden_layers": shape.depth}
    options |= {"num_attention_heads": heads, "image_size": img_size, "patch_size": shape.patch}
    if shape.pre_norm:
        kind, options = "CLIPVision", {**options, "intermediate_size": hidden}
    elif not shape.layer_scale:
        kind, options = "ViT", {**options, "intermediate_size": hidden, "layer_norm_eps": 1e-6}
    elif shape.registers:
        kind, options = "Dinov2WithRegisters", {**options, "num_register_tokens": shape.registers}
    else:
        kind = "Dinov2"
    if shape.swiglu:
        options["use_swiglu_ffn"] = True
    return kind, options


def _hidden(shape: Shape, state: Mapping[str, Tensor]) -> int:
    second = state.get("blocks.0.mlp.fc2.weight")
    return second.shape[-1] if second is not None and second.ndim == 2 else 4 * shape.width


def _dict(kind: str, **options: Any) -> str:
    return f"dict({', '.join(_options({'type': kind, **options}))})"


def _options(options: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value!r}" for key, value in options.items()]
