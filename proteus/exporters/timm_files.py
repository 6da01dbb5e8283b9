"""``model.safetensors`` and ``config.json``, which timm and the Hugging Face hub open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg
from torch import Tensor

from proteus.checkpoints import export_backbone
from proteus.exporters.compare import largest_difference
from proteus.exporters.licences import hub_licence
from proteus.exporters.model import ExportModel, FormatSkippedError
from proteus.structures import Features
from proteus.utils.atomic import write_json

FILES = ("model.safetensors", "config.json")


def write_timm(model: ExportModel, folder: Path) -> float:
    """Write a folder that ``timm.create_model("local-dir:FOLDER", pretrained=True)`` opens.

    The header of ``model.safetensors`` holds the description with which Proteus rebuilds the model.

    Args:
        model: A model of timm's.
        folder: Folder to write to.

    Returns:
        Largest absolute difference between the features of timm's model and of ``model``.

    Raises:
        FormatSkippedError: The model is another toolbox's; the weights are written, and timm cannot open them.
        CheckpointError: A weight is not finite.
        ExportError: timm's model gives other features.
        FullDiskError: The disk is full.
    """
    export_backbone(model.state(), folder / "model.safetensors", model.description())
    if not model.is_timm:
        raise FormatSkippedError(f"{model.architecture} is not a model of timm's; model.safetensors has its weights")
    write_json(folder / "config.json", timm_config(model), indent=2)
    opened = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return largest_difference(model, lambda images: read_timm(opened, model, images), "config.json", batches=(2,))


def timm_config(model: ExportModel) -> dict[str, Any]:
    """Return the content of timm's ``config.json`` for a model."""
    network: Any = model.network
    known = get_pretrained_cfg(model.architecture, allow_unregistered=True)
    default = known.to_dict() if known is not None else {}
    size = [3, model.img_size, model.img_size]
    about = {
        "custom_load": False,
        "input_size": size,
        "fixed_input_size": bool(default.get("fixed_input_size", False)),
        "interpolation": model.interpolation,
        "crop_pct": model.crop_pct,
        "crop_mode": "center",
        "mean": list(model.mean),
        "std": list(model.std),
        "num_classes": 0,
        "pool_size": None,
        "first_conv": default.get("first_conv"),
        "classifier": default.get("classifier"),
        **({"license": hub_licence(model.licence)} if model.licence else {}),
    }
    config = {"architecture": model.architecture, "num_classes": 0, "num_features": network.num_features}
    pool = getattr(network, "global_pool", None)
    if isinstance(pool, str) and pool:
        config["global_pool"] = pool
    return {**config, "model_args": model.arguments, "pretrained_cfg": about}


def read_timm(opened: Any, model: ExportModel, images: Tensor) -> Features:
    """Read the features of Proteus from a model of timm's; the card has the same lines as code.

    Args:
        opened: timm's model.
        model: The model that was exported.
        images: ``(B, 3, H, W)``, normalised.
    """
    output = opened.forward_features(images)
    if output.ndim == 4:
        maps = output.permute(0, 3, 1, 2) if getattr(opened, "output_fmt", "NCHW") == "NHWC" else output
        patches = maps.flatten(2).transpose(1, 2)
        grid = (int(maps.shape[2]), int(maps.shape[3]))
    else:
        patches = output[:, getattr(opened, "num_prefix_tokens", 0) :]
        grid = model.features(images).grid
    cls = {"pooled": lambda: opened(images), "first": lambda: output[:, 0], "mean": lambda: patches.mean(dim=1)}
    return Features(cls[cls_kind(model)](), patches, grid)


def cls_kind(model: ExportModel) -> str:
    """Return how timm's model gives the ``cls`` of Proteus.

    Returns:
        ``pooled``, the output of the model; ``first``, the first token; or ``mean``, the mean of the last map.
    """
    network, images = model.network, model.images(1)
    with torch.inference_mode():
        pooled, cls, output = network(images), model.features(images).cls, network.forward_features(images)
    if pooled.shape == cls.shape and torch.allclose(pooled, cls, atol=1e-5, rtol=1e-4):
        return "pooled"
    return "first" if output.ndim == 3 else "mean"
