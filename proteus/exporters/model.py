"""A backbone to export, and the facts that its files need."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from timm.models import get_pretrained_cfg
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from proteus.checkpoints import CheckpointError
from proteus.checkpoints.description import check_description
from proteus.checkpoints.detect_arch import Shape, detect_arch
from proteus.models.backbones import AdaptedBackbone, ViT, architecture_of, weights_of
from proteus.models.zoo.model_folder import InputFacts
from proteus.structures import Features, UserError
from proteus.utils.digest import weights_digest


class FormatSkippedError(UserError):
    """A format that cannot hold a model, or that needs a package which is not installed; the message says why."""


@dataclass(frozen=True)
class ExportModel:
    """A backbone to export.

    Attributes:
        backbone: ``ViT``, ``TimmBackbone`` or ``AdaptedBackbone``, frozen, in eval mode, on the CPU.
        name: What the user called it.
        img_size: Side of the images in pixels.
        mean: Channel means to normalise images in [0, 1] with.
        std: Channel standard deviations, likewise.
        interpolation: How images are resized: ``bicubic``, ``bilinear``.
        crop_pct: Side of the centre crop as a fraction of the side that the image is resized to.
        crop_mode: What is resized to that side; see :class:`~proteus.models.zoo.model_folder.InputFacts`.
        teacher: Name of the teacher; empty if unknown.
        iterations: Training steps; None if unknown.
        licence: Licence of the weights, such as ``apache-2.0``; empty if unknown.
    """

    backbone: nn.Module
    name: str
    img_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    crop_mode: str = "center"
    teacher: str = ""
    iterations: int | None = None
    licence: str = ""

    @property
    def network(self) -> Any:
        """The model of timm or of another toolbox inside the backbone."""
        for name in ("vit", "model", "guest"):
            network = getattr(self.backbone, name, None)
            if isinstance(network, nn.Module):
                return network
        raise UserError(f"{self.name}: {type(self.backbone).__name__} is not a backbone that can be exported")

    @property
    def architecture(self) -> str:
        """Name in timm, or ``mmpretrain.NAME``."""
        return architecture_of(self.backbone)[0]

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the architecture."""
        return architecture_of(self.backbone)[1]

    @property
    def is_timm(self) -> bool:
        """Whether the backbone is a model of timm's."""
        return not isinstance(self.backbone, AdaptedBackbone)

    @property
    def resize(self) -> int:
        """Side in pixels that an image is resized to before the centre crop."""
        return math.floor(self.img_size / self.crop_pct)  # as timm

    @property
    def digest(self) -> str:
        """Hexadecimal digest of weights and architecture."""
        return weights_digest(
            self.state(), json.dumps([self.architecture, self.arguments], sort_keys=True, default=str)
        )

    def state(self) -> dict[str, Tensor]:
        """Return the weights under the names of timm or of the backbone's toolbox."""
        return weights_of(self.backbone)

    def description(self) -> dict[str, Any]:
        """Return the description for the header of a weight file, with which Proteus rebuilds the model.

        An architecture with arguments that a weight file may not set is left out.
        """
        facts: dict[str, Any] = {
            "architecture": self.architecture,
            "arguments": self.arguments,
            "mean": list(self.mean),
            "std": list(self.std),
            "teacher": self.teacher,
            "iterations": self.iterations,
            "img_size": None if "img_size" in self.arguments else self.img_size,
        }
        facts = {key: value for key, value in facts.items() if value not in ("", None)}
        try:
            check_description(json.loads(json.dumps(facts)), self.name)
        except (CheckpointError, TypeError):
            return {key: value for key, value in facts.items() if key not in ("architecture", "arguments")}
        return facts

    def images(self, batch: int, size: tuple[int, int] | None = None) -> Tensor:
        """Return random images ``(batch, 3, H, W)``, the same for the same arguments.

        Args:
            batch: Number of images.
            size: ``(H, W)``; ``img_size`` by default.
        """
        generator = torch.Generator().manual_seed(batch)
        return torch.randn(batch, 3, *(size or (self.img_size, self.img_size)), generator=generator)

    def features(self, images: Tensor) -> Features:
        """Encode images ``(B, 3, H, W)``, normalised, without gradients."""
        with torch.inference_mode():
            return self.backbone(images)

    def with_backbone(self, backbone: nn.Module) -> ExportModel:
        """Return the facts of this model for other weights of it, such as an average."""
        return replace(self, backbone=backbone)


@dataclass(frozen=True)
class PlainViT:
    """Architecture of a plain vision transformer, read from the model itself.

    Attributes:
        shape: Architecture as weights show it.
        heads: Attention heads.
        hidden: Width of the hidden layer of the MLPs.
        eps: Epsilon of the LayerNorms.
        quick_gelu: Whether the MLPs have QuickGELU in place of GELU.
    """

    shape: Shape
    heads: int
    hidden: int
    eps: float
    quick_gelu: bool


def plain_vit(model: ExportModel) -> PlainViT:
    """Read the architecture of a plain ViT: DINOv2's, CLIP's, or the original.

    Raises:
        FormatSkippedError: The model is another architecture, or has a part that those do not have; the message names
            it.
    """
    if not isinstance(model.backbone, ViT):
        raise FormatSkippedError(f"{model.architecture} is not a plain ViT")
    vit: Any = model.backbone.vit
    state = model.state()
    shape = detect_arch(state)
    if shape is None:
        raise FormatSkippedError(f"{model.architecture} is not a plain ViT")
    other = sorted(set(state) ^ _names(shape, state))
    if other:
        raise FormatSkippedError(f"{model.architecture} is not a plain ViT ({other[0]})")
    first = vit.blocks[0]
    activation = type(first.mlp.act).__name__
    norms = {norm.eps for norm in (vit.norm, *(block.norm1 for block in vit.blocks))}
    if any(type(block) is not Block for block in vit.blocks) or len(norms) != 1:
        raise FormatSkippedError(f"{model.architecture} has blocks of another form")
    if activation not in (("SiLU",) if shape.swiglu else ("GELU", "QuickGELU")):
        raise FormatSkippedError(f"{model.architecture} has the activation {activation}")
    hidden = int(state["blocks.0.mlp.fc2.weight"].shape[1])
    return PlainViT(shape, int(first.attn.num_heads), hidden, norms.pop(), activation == "QuickGELU")


def _names(shape: Shape, state: Mapping[str, Tensor]) -> set[str]:
    """Return the names of the weights of a plain ViT of some shape."""
    layers = [f"blocks.{{}}.{layer}" for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")]
    layers = [layer.format(block) for block in range(shape.depth) for layer in layers]
    layers += ["norm", *(["norm_pre"] if shape.pre_norm else [])]
    names = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    names |= {"cls_token", "pos_embed", "patch_embed.proj.weight"}
    names |= set() if shape.pre_norm else {"patch_embed.proj.bias"}
    names |= {"reg_token"} if shape.registers else set()
    if shape.layer_scale:
        names |= {f"blocks.{block}.ls{part}.gamma" for block in range(shape.depth) for part in (1, 2)}
    return names


def input_facts(backbone: Any, name: str) -> InputFacts:
    """Return the interpolation and the crop that timm recommends for a published model, or the usual ones.

    Args:
        backbone: The model.
        name: Its name; a tag after it, as in ``timm/resnet50.tv_in1k``, may have its own.
    """
    tagged = get_pretrained_cfg(name.removeprefix("timm/"))
    if tagged is not None:
        return InputFacts(tagged.interpolation, tagged.crop_pct, tagged.crop_mode)
    network = next((part for name in ("vit", "model") if (part := getattr(backbone, name, None)) is not None), None)
    about = getattr(network, "pretrained_cfg", None) or {}
    return InputFacts(**{key: about[key] for key in InputFacts._fields if key in about})
