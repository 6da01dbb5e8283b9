"""``hf/``: a folder that ``transformers.AutoModel.from_pretrained`` opens. Written without transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from proteus.checkpoints import export_backbone, from_timm_keys
from proteus.checkpoints.usage import hugging_face_arguments
from proteus.exporters.model import ExportModel, FormatSkippedError, PlainViT, plain_vit
from proteus.exporters.timm_files import timm_config
from proteus.models.zoo.model_folder import INTERPOLATIONS
from proteus.utils.atomic import write_json

FILES = ("config.json", "model.safetensors", "preprocessor_config.json")
_TYPES = {
    "Dinov2": ("dinov2", "BitImageProcessor"),
    "Dinov2WithRegisters": ("dinov2_with_registers", "BitImageProcessor"),
    "ViT": ("vit", "BitImageProcessor"),
    "CLIPVision": ("clip_vision_model", "CLIPImageProcessor"),
}


def write_hugging_face(model: ExportModel, folder: Path) -> str:
    """Write ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``.

    A plain ViT becomes ``Dinov2Model``, ``Dinov2WithRegistersModel``, ``ViTModel`` or ``CLIPVisionModel``. Any other
    model of timm's becomes ``TimmWrapperModel``, which needs timm.

    Args:
        model: The model.
        folder: Folder to write to, ``hf`` of the model folder.

    Returns:
        Name of the class in ``transformers``.

    Raises:
        FormatSkippedError: The model is another toolbox's, and transformers has no class for it.
        FullDiskError: The disk is full.
    """
    if not model.is_timm:
        raise FormatSkippedError(f"transformers has no class for {model.architecture}")
    try:
        return _write_native(model, plain_vit(model), folder)
    except FormatSkippedError:
        return _write_wrapper(model, folder)


def native_class(model: ExportModel) -> str | None:
    """Return the class in ``transformers`` for a plain ViT, such as ``Dinov2Model``; None if there is none."""
    try:
        return f"{_native(model, plain_vit(model))[0]}Model"
    except FormatSkippedError:
        return None


def _native(model: ExportModel, vit: PlainViT) -> tuple[str, dict[str, Any]]:
    shape = vit.shape
    kind, options = hugging_face_arguments(shape, model.img_size, vit.heads, vit.hidden)
    dino = kind.startswith("Dinov2")
    # Dinov2Config derives the width of the hidden layer.
    ratio = round(vit.hidden / shape.width)
    derived = (int(4 * shape.width * 2 / 3) + 7) // 8 * 8 if shape.swiglu else ratio * shape.width
    unknown = {
        "LayerScale with a LayerNorm before the blocks": shape.pre_norm and shape.layer_scale,
        "gated MLPs without LayerScale": shape.swiglu and not dino,
        "registers without LayerScale": bool(shape.registers) and not dino,
        f"MLPs of width {vit.hidden}": dino and vit.hidden != derived,
        "QuickGELU": vit.quick_gelu and kind != "CLIPVision",
        "borders around its images": model.crop_mode == "border",
    }
    for reason, found in unknown.items():
        if found:
            raise FormatSkippedError(f"transformers has no class for a ViT with {reason}")
    options["layer_norm_eps"] = vit.eps
    options["hidden_act"] = "quick_gelu" if vit.quick_gelu else "gelu"
    if dino and not shape.swiglu:
        options["mlp_ratio"] = ratio
    if kind == "Dinov2":
        options["use_mask_token"] = False
    if kind == "ViT":  # its pooler then returns the cls token; one that was never trained would return noise
        options["pooler_act"] = "linear"
    return kind, options


def _write_native(model: ExportModel, vit: PlainViT, folder: Path) -> str:
    kind, options = _native(model, vit)
    state = from_timm_keys(model.state(), "hf")
    width = vit.shape.width
    if kind == "Dinov2WithRegisters":
        state["embeddings.mask_token"] = torch.zeros(1, width)
    if kind == "ViT":
        state |= {"pooler.dense.weight": torch.eye(width), "pooler.dense.bias": torch.zeros(width)}
    model_type, processor = _TYPES[kind]
    export_backbone(state, folder / "model.safetensors", {"converted_to": "hf", **_statistics(model)})
    config = {"architectures": [f"{kind}Model"], "model_type": model_type, "dtype": "float32", **options}
    write_json(folder / "config.json", config, indent=2)
    side, squash = {"height": model.img_size, "width": model.img_size}, model.crop_mode == "squash"
    steps = {"do_convert_rgb": True, "do_resize": True, "do_center_crop": True, "do_rescale": True}
    preprocessor = {
        "image_processor_type": processor,
        **steps,
        "do_normalize": True,
        "size": {"height": model.resize, "width": model.resize} if squash else {"shortest_edge": model.resize},
        "crop_size": side,
        "resample": INTERPOLATIONS.index(model.interpolation),
        "rescale_factor": 1 / 255,
        "image_mean": list(model.mean),
        "image_std": list(model.std),
    }
    write_json(folder / "preprocessor_config.json", preprocessor, indent=2)
    return f"{kind}Model"


def _write_wrapper(model: ExportModel, folder: Path) -> str:
    export_backbone(model.state(), folder / "model.safetensors", model.description())
    write_json(folder / "config.json", timm_config(model), indent=2)
    return "TimmWrapperModel"


def _statistics(model: ExportModel) -> dict[str, Any]:
    facts = {"mean": list(model.mean), "std": list(model.std), "teacher": model.teacher}
    return {key: value for key, value in facts.items() if value}
