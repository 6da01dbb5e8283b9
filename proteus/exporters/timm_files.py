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
        "crop_mode": model.crop_mode,
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
    patches = patches_of(opened, output)
    how = cls_kind(model)
    cls = opened(images) if how == "pooled" else output[:, 0] if how == "first" else patches.mean(dim=1)
    return Features(cls, patches, model.features(images).grid)


def last_output(model: ExportModel, images: Tensor) -> Tensor:
    """Return the last tokens ``(B, P + N, D)`` or map of the network inside a backbone, before any pooling."""
    with torch.inference_mode():
        output = model.network.forward_features(images) if model.is_timm else model.network(images)
    while isinstance(output, (tuple, list)):
        output = output[-1]
    return output


def prefix_tokens(network: Any) -> int:
    """Return the number of tokens before the patch tokens."""
    return int(getattr(network, "num_prefix_tokens", getattr(network, "num_extra_tokens", 0)))


def patches_of(network: Any, output: Tensor) -> Tensor:
    """Return the patch tokens ``(B, N, D)`` in the last output of a network."""
    if output.ndim == 3:
        return output[:, prefix_tokens(network) :]
    if getattr(network, "output_fmt", "NCHW") == "NHWC":
        return output.flatten(1, 2)
    return output.flatten(2).transpose(1, 2)


def cls_kind(model: ExportModel, pooled: bool = True) -> str:
    """Return how the network inside a backbone gives its ``cls``.

    Args:
        model: The model.
        pooled: Whether to consider the output of timm's model, after its own pooling.

    Returns:
        ``pooled``, the output of timm's model; ``first``, the first token; ``mean``, the mean of the patch tokens or of
        the map; or ``none`` of these.
    """
    images = model.images(1)
    cls, output = model.features(images).cls, last_output(model, images)
    found = {"pooled": _pooled(model, images)} if pooled and model.is_timm else {}
    found |= {"first": output[:, 0]} if output.ndim == 3 else {}
    found["mean"] = patches_of(model.network, output).mean(dim=1)
    for kind, value in found.items():
        if value.shape == cls.shape and torch.allclose(value, cls, atol=1e-5, rtol=1e-4):
            return kind
    return "none"


def _pooled(model: ExportModel, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.network(images)
