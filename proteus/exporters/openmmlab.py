"""``openmmlab/``: weights and a config dict for mmpretrain, and for mmseg and mmdet through its scope."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from proteus.checkpoints import from_timm_keys
from proteus.checkpoints.export import check_written
from proteus.checkpoints.usage import mmpretrain_arguments
from proteus.exporters.model import ExportModel, FormatSkippedError, plain_vit
from proteus.utils.atomic import atomic_path, write_text

FILES = ("backbone.py", "backbone.pth")

_TEXT = '''"""Backbone for mmpretrain, and for mmseg and mmdet through the scope mmpretrain.

Use it as a base: _base_ = "FOLDER/backbone.py", then model = dict(backbone=_base_.backbone).
{note}
"""

backbone = {config}
{dense}'''
_CHECKPOINT = "{{ fileDirname }}/backbone.pth"


def write_openmmlab(model: ExportModel, folder: Path) -> str:
    """Write ``backbone.pth`` and ``backbone.py``.

    A plain ViT becomes ``mmpretrain.VisionTransformer``, any other model of timm's ``mmpretrain.TIMMBackbone`` (which
    needs timm), and a backbone of OpenMMLab's stays what it is. The path of the weights in ``backbone.py`` is relative
    to that file, through MMEngine's ``fileDirname``.

    Args:
        model: The model.
        folder: Folder to write to, ``openmmlab`` of the model folder.

    Returns:
        Type of the backbone in the config.

    Raises:
        FormatSkippedError: OpenMMLab has no class that gives the features of the model.
        FullDiskError: The disk is full.
    """
    kind, arguments, state = _converted(model)
    path = folder / "backbone.pth"
    check_written(state, path)
    # Own storage for each tensor: a view would be saved with all of the tensor that it is part of.
    plain = {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in state.items()}
    # With a file object, a full disk raises an OSError.
    with atomic_path(path) as temporary, temporary.open("wb") as opened:
        torch.save(plain, opened)
    config = {"type": kind, **arguments, "init_cfg": {"type": "Pretrained", "checkpoint": _CHECKPOINT}}
    tokens = kind == "mmpretrain.VisionTransformer"
    note = f"Normalise images in [0, 1] with mean {list(model.mean)} and std {list(model.std)}."
    dense = '\n# For dense heads: one map of patch tokens.\ndense_backbone = dict(backbone, out_type="featmap")\n'
    text = _TEXT.format(note=note, config=_format(config), dense=dense if tokens else "")
    write_text(folder / "backbone.py", text)
    return kind


def _format(config: dict[str, Any]) -> str:
    rows = (
        f"    {key}={json.dumps(value) if isinstance(value, str) else repr(value)},\n" for key, value in config.items()
    )
    return f"dict(\n{''.join(rows)})"


def _converted(model: ExportModel) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    if not model.is_timm:
        return model.architecture, model.arguments, model.state()
    try:
        vit = plain_vit(model)
        if (vit.shape.pre_norm and vit.shape.layer_scale) or vit.shape.registers:
            raise FormatSkippedError(f"mmpretrain has no class for {model.architecture}")
        options = mmpretrain_arguments(vit.shape, model.img_size, vit.heads, vit.hidden, vit.quick_gelu, vit.eps)
        return "mmpretrain.VisionTransformer", options, from_timm_keys(model.state(), "mmpretrain")
    except FormatSkippedError:
        pass
    _check_wrapper(model)
    state = {f"timm_model.{key}": value for key, value in model.state().items()}
    return "mmpretrain.TIMMBackbone", {"model_name": model.architecture, **model.arguments}, state


def _check_wrapper(model: ExportModel) -> None:
    """Check that ``TIMMBackbone``, which runs timm's model without its head, gives the features of the model."""
    network: Any = timm.create_model(model.architecture, num_classes=0, **model.arguments).eval()
    network.load_state_dict(model.state())
    others = f"mmpretrain's TIMMBackbone gives other features of {model.architecture}"
    try:
        network.reset_classifier(0, "")
    except AssertionError as error:  # a model that cannot leave out its pooling (CoaT)
        raise FormatSkippedError(others) from error
    images = model.images(1)
    with torch.inference_mode():
        output, patches = network(images), model.features(images).patches
    if not isinstance(output, Tensor):  # several outputs (EfficientViM)
        raise FormatSkippedError(others)
    if output.ndim == 4:
        output = output.flatten(2).transpose(1, 2)
    found = output[:, output.shape[1] - patches.shape[1] :]
    if found.shape != patches.shape or not torch.allclose(found, patches, atol=1e-4, rtol=1e-4):
        raise FormatSkippedError(others)
