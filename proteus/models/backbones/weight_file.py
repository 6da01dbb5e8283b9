"""From a weight file to the config of its backbone: by its description, or by the shapes of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from timm.models import get_pretrained_cfg
from torch import Tensor

from proteus.checkpoints import CheckpointError, Description, locate, read_description, read_state_dict, to_timm_keys
from proteus.checkpoints.detect_arch import Shape, detect_arch
from proteus.checkpoints.dinov3_keys import dinov3_arch
from proteus.checkpoints.run_settings import read_statistics
from proteus.models.backbones.from_description import described_backbone
from proteus.models.backbones.timm_names import check_arch, check_build, interpolation, timm_config

_BY_WIDTH = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1536: "giant"}
_CLIP_BY_WIDTH = {768: "clip-base", 1024: "clip-large"}
_DEFAULT_SIZE = 224


@dataclass(frozen=True)
class WeightFile:
    """What is known about the model in a weight file.

    Attributes:
        config: What :func:`~proteus.models.backbones.build_backbone` takes, weights included.
        mean: Channel means that it was trained with, for images in [0, 1].
        std: Channel standard deviations, likewise.
        img_size: Side of the images in pixels.
        note: How the facts were found, for a report.
        state: The file's tensors.
        description: The file's description; None if it has none.
    """

    config: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    img_size: int
    note: str
    state: Mapping[str, Tensor]
    description: Description | None = None


def read_weight_file(
    name: str, arch: str | None = None, img_size: int | None = None, description: Description | None = None
) -> WeightFile:
    """Find out what builds the model in a weight file.

    Args:
        name: The file, with ``#ema`` and the like behind it.
        arch: timm name of the architecture, if it cannot be detected (CNNs).
        img_size: Side of the images in pixels; by default the one that the file describes or was trained at.
        description: Description to use instead of the one in the file, such as a model folder's.

    Raises:
        CheckpointError: The file is missing or unreadable, or its architecture cannot be detected.
        DataError: ``arch`` is unknown, or it cannot be built for images of this size.
    """
    if arch is not None:
        check_arch(f"--arch {arch}", arch)
    if description is None:
        description = read_description(locate(name)) or read_statistics(locate(name))
    state = read_state_dict(name)
    if description is not None and description.architecture is not None:
        size = img_size or _described_size(description)
        config = described_backbone(description, state, size, name)
        note = f"distilled from {description.teacher}" if description.teacher else ""
        return WeightFile(config, description.mean or (), description.std or (), size, note, state, description)
    renamed = to_timm_keys(state)
    shape = detect_arch(renamed)
    # A file without an architecture may still have the normalisation of images.
    known = None
    if description is not None and description.mean and description.std:
        known = description.mean, description.std
    option, note = f"--arch {arch}", f"architecture from --arch: {arch}"
    if arch is None and shape is not None and shape.family == "DINOv3":
        arch = dinov3_arch(shape, renamed)
        option, note = name, f"recognised as {arch}{'' if known else '; mean and std of its family'}"
    if arch is not None:
        pretrained = get_pretrained_cfg(arch)
        trained = description.img_size if description is not None else None
        size = img_size or trained or (pretrained.input_size[-1] if pretrained else _DEFAULT_SIZE)
        config = {**timm_config(arch), "img_size": size, "checkpoint": name}
        check_build(option, config)
        mean, std = (pretrained.mean, pretrained.std) if pretrained else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        mean, std = known or (tuple(mean), tuple(std))
        return WeightFile(config, mean, std, size, note, state, description)
    if shape is None:
        raise CheckpointError(f"{name} holds no ViT and does not say what it is: add --arch NAME, its name in timm")
    clip = shape.family == "CLIP"
    mean, std = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD) if clip else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    size = img_size or (shape.side * shape.patch if shape.side else _DEFAULT_SIZE)
    config = {**_vit_config(shape, name), "img_size": size, "checkpoint": name}
    note = f"recognised as {shape.title}" if known else f"recognised as {shape.title}; mean and std of its family"
    mean, std = known or (tuple(mean), tuple(std))
    return WeightFile(config, mean, std, size, note, state, description)


def _described_size(description: Description) -> int:
    size = description.arguments.get("img_size", description.img_size or _DEFAULT_SIZE)
    return max(size) if isinstance(size, tuple) else size


def _vit_config(shape: Shape, name: str) -> dict[str, Any]:
    if shape.side is None:
        raise CheckpointError(
            f"{name} holds a {shape.title} of width {shape.width} without a position embedding, and its weights do not "
            "show how it encodes positions: add --arch NAME, its name in timm, such as vit_small_patch16_dinov3"
        )
    arch = (_CLIP_BY_WIDTH if shape.pre_norm else _BY_WIDTH).get(shape.width)
    if arch is None:
        raise CheckpointError(
            f"{name} holds a {shape.title} of width {shape.width}, and the number of heads cannot be detected: add "
            "--arch NAME, its name in timm, or export it with its description"
        )
    config: dict[str, Any] = {"type": "ViT", "arch": arch, "patch_size": shape.patch, "reg_tokens": shape.registers}
    if not shape.pre_norm:
        config |= {"depth": shape.depth, "init_values": 1.0 if shape.layer_scale else None}
    return config | interpolation(shape.layer_scale, shape.registers)
