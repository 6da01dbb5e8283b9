"""From what a user calls a backbone (a weight file, a timm name) to what builds it and feeds it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from timm.models import get_pretrained_cfg, is_model
from torch import Tensor

from proteus.checkpoints import (
    CheckpointError,
    export_backbone,
    locate,
    read_description,
    read_state_dict,
    to_timm_keys,
)
from proteus.checkpoints.detect_arch import Shape, detect_arch
from proteus.models.backbones.from_description import described_backbone
from proteus.models.backbones.openmmlab import build_backbone
from proteus.models.backbones.vit import ARCHITECTURES
from proteus.structures import DataError, UserError
from proteus.utils.digest import weights_digest

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".onnx", ".tar")
_BY_WIDTH = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1536: "giant"}
_CLIP_BY_WIDTH = {768: "clip-base", 1024: "clip-large"}


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone that can be built again and again.

    Attributes:
        name: What the user called it.
        config: What :func:`~proteus.models.backbones.build_backbone` takes, weights included.
        mean: Channel means it was trained with, for images in [0, 1].
        std: Channel standard deviations, likewise.
        digest: Hexadecimal digest of its weights and its architecture: the same for the same features.
        note: What is not known for sure, for a report; empty if nothing is.
        seed: Of random weights; None where ``config`` names a file.
    """

    name: str
    config: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    note: str = ""
    seed: int | None = None

    def build(self) -> Any:
        """Build it, frozen and in eval mode; random weights are the same each time."""
        with torch.random.fork_rng(devices=[]):
            if self.seed is not None:
                torch.manual_seed(self.seed)
            return build_backbone(self.config).requires_grad_(False).eval()

    def config_with_weights(self, folder: Path) -> dict[str, Any]:
        """Its config for another process; random weights are written to a file in ``folder``."""
        if self.seed is None:
            return self.config
        path = folder / f"random-{self.digest[:16]}.safetensors"
        if not path.is_file():
            export_backbone(self.build().timm_state(), path, {"random": self.name})
        return {**self.config, "checkpoint": str(path)}


def locate_backbone(name: str, arch: str | None = None, img_size: int = 224, download: bool = False) -> BackboneSpec:
    """Find out what builds a backbone.

    Args:
        name: A weight file: our exported student, a training checkpoint, or any ViT's weights that
            ``checkpoint=`` takes, with ``#ema`` and the like behind it. Or a model of timm's, with its tag
            (``vit_small_patch14_dinov2.lvd142m``), with its weights from timm's cache. Or
            ``random:NAME`` or ``random:NAME:SEED``, a model of timm's or of ours (``tiny``) without training.
        arch: timm name of the architecture of a weight file, if it cannot be detected (CNNs).
        img_size: Side of the images in pixels.
        download: Let timm's weights come from their hub if they are not in the cache. Nothing else is downloaded.

    Raises:
        CheckpointError: The file is missing or unreadable, or its architecture cannot be detected.
        DataError: The model does not exist, or its weights are not on this machine.
    """
    if name.startswith("random:"):
        return _random(name, img_size)
    if "/" in name or locate(name).is_file() or locate(name).suffix in _SUFFIXES:
        return _from_file(name, arch, img_size)
    if not is_model(name.split(".")[0]):
        near = get_close_matches(name, timm.list_models(pretrained=True) + timm.list_models(), n=3)
        raise DataError(
            f"--backbone {name}: no such file, and no model of timm's; nearest: {', '.join(near) or 'none'}. "
            "Give a weight file, a timm name, or random:NAME"
        )
    return _from_timm(name, img_size, download)


def _random(name: str, img_size: int) -> BackboneSpec:
    arch, _, seed = name.removeprefix("random:").partition(":")
    _check_arch(f"--backbone {name}", arch)
    if seed and not seed.isdigit():
        raise DataError(f"--backbone {name}: the seed is {seed!r}, write a number: random:{arch}:0")
    config = _timm_config(arch, img_size)
    _check_build(f"--backbone {name}", config)
    mean, std = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD) if "clip" in arch else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    return _spec(name, config, mean, std, "random weights, not trained", seed=int(seed or 0))


def _check_arch(option: str, arch: str) -> None:
    """Refuse a name that is neither ours nor timm's, or has a tag that timm does not know.

    Raises:
        DataError: Names the nearest names, or the tags that there are.
    """
    if arch not in ARCHITECTURES and not is_model(arch):
        near = ", ".join(get_close_matches(arch, [*ARCHITECTURES, *timm.list_models()], n=3))
        raise DataError(f"{option}: no model of ours or timm's has the name '{arch}'; nearest: {near or 'none'}")
    try:
        get_pretrained_cfg(arch)
    except RuntimeError as error:  # of the tag
        tags = ", ".join(timm.list_pretrained(f"{arch.split('.')[0]}.*")) or "none"
        raise DataError(f"{option}: timm does not know this tag; it has: {tags}") from error


def _check_build(option: str, config: Mapping[str, Any]) -> None:
    """Build a backbone without memory, and compare the file that it names.

    Raises:
        CheckpointError: The file holds another model's weights.
        DataError: It cannot be built for images of this size.
    """
    try:
        with torch.device("meta"):
            build_backbone(dict(config))
    except UserError:
        raise
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise DataError(f"{option}, --img-size {config['img_size']}: {' '.join(str(error).split())}") from error


def _from_timm(name: str, img_size: int, download: bool) -> BackboneSpec:
    _check_arch(f"--backbone {name}", name)
    pretrained = get_pretrained_cfg(name)
    if pretrained is None or not pretrained.hf_hub_id:
        raise DataError(
            f"--backbone {name}: timm has no weights of this name on its hub; give a file, or random:{name}"
        )
    path = _cached(pretrained, name, download)
    config = _timm_config(name.split(".")[0], img_size)
    _check_build(f"--backbone {name}", config)
    # DINOv2's own way to fit positions to another grid; the others' authors resize plainly.
    if config["type"] == "ViT" and "dinov2" not in name:
        config["interpolate_offset"] = 0.0
    state = read_state_dict(path)
    return _spec(name, {**config, "checkpoint": str(path)}, pretrained.mean, pretrained.std, state=state)


def _cached(pretrained: Any, name: str, download: bool) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    repository = (
        pretrained.hf_hub_id
        if pretrained.hf_hub_id.count("/") and not pretrained.hf_hub_id.endswith("/")
        else (f"{pretrained.hf_hub_id}{pretrained.architecture}.{pretrained.tag}")
    )
    file = pretrained.hf_hub_filename or "model.safetensors"
    found = try_to_load_from_cache(repository, file)
    if isinstance(found, str):
        return Path(found)
    if download:
        return Path(hf_hub_download(repository, file))
    raise DataError(
        f"--backbone {name}: its weights ({repository}, {file}) are not in the Hugging Face cache of this machine. Add "
        f"--download to fetch them, give a file of your own, or write random:{name.split('.')[0]} for no training"
    )


def _timm_config(arch: str, img_size: int) -> dict[str, Any]:
    """Take our own class where it can build the model, since it gives the features of several blocks."""
    if arch in ARCHITECTURES:
        patch = 16 if arch == "clip-base" else 14
        return {"type": "ViT", "arch": arch, "img_size": img_size, "patch_size": patch}
    with torch.device("meta"):
        model: Any = timm.create_model(arch, num_classes=0)
    shape = detect_arch(model.state_dict())
    plain = type(model).__name__ == "VisionTransformer" and model.cls_token is not None and model.pos_embed is not None
    if not (plain and shape and model.global_pool == "token"):
        return {"type": "TimmBackbone", "arch": arch, "img_size": img_size}
    scale = 1.0 if shape.layer_scale else None
    return {
        "type": "ViT",
        "arch": arch,
        "img_size": img_size,
        "patch_size": shape.patch,
        "reg_tokens": shape.registers,
        "init_values": scale,
    }


def _from_file(name: str, arch: str | None, img_size: int) -> BackboneSpec:
    if arch is not None:
        _check_arch(f"--arch {arch}", arch)
    description = read_description(locate(name))
    state = read_state_dict(name)
    if description is not None and description.architecture is not None:
        config = described_backbone(description, state, img_size, name)
        note = f"distilled from {description.teacher}" if description.teacher else ""
        return _spec(name, config, description.mean or (), description.std or (), note, state=state)
    shape = detect_arch(to_timm_keys(state))
    # A file without an architecture may still have the normalisation of images.
    known = None
    if description is not None and description.mean and description.std:
        known = description.mean, description.std
    if arch is not None:
        config = {**_timm_config(arch, img_size), "checkpoint": name}
        _check_build(f"--arch {arch}", config)
        pretrained = get_pretrained_cfg(arch)
        mean, std = (pretrained.mean, pretrained.std) if pretrained else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        if known is not None:
            mean, std = known
        return _spec(name, config, mean, std, f"architecture from --arch: {arch}", state=state)
    if shape is None:
        raise CheckpointError(f"{name} holds no ViT and does not say what it is: add --arch NAME, its name in timm")
    clip = shape.family == "CLIP"
    mean, std = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD) if clip else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    config = {**_vit_config(shape, name), "img_size": img_size, "checkpoint": name}
    if known is not None:
        return _spec(name, config, *known, f"recognised as {shape.title}", state=state)
    return _spec(name, config, mean, std, f"recognised as {shape.title}; mean and std of its family", state=state)


def _vit_config(shape: Shape, name: str) -> dict[str, Any]:
    arch = (_CLIP_BY_WIDTH if shape.pre_norm else _BY_WIDTH).get(shape.width)
    if arch is None:
        raise CheckpointError(
            f"{name} holds a {shape.title} of width {shape.width}, and the number of heads cannot be detected: add "
            "--arch NAME, its name in timm, or export it with its description"
        )
    config: dict[str, Any] = {"type": "ViT", "arch": arch, "patch_size": shape.patch, "reg_tokens": shape.registers}
    if not shape.pre_norm:
        config |= {"depth": shape.depth, "init_values": 1.0 if shape.layer_scale else None}
        config |= {} if shape.layer_scale else {"interpolate_offset": 0.0}
    return config


def _spec(
    name: str,
    config: dict[str, Any],
    mean: Sequence[float],
    std: Sequence[float],
    note: str = "",
    state: Mapping[str, Tensor] | None = None,
    seed: int | None = None,
) -> BackboneSpec:
    architecture = {key: value for key, value in config.items() if key not in ("checkpoint", "init_cfg")}
    digest = weights_digest(state or {}, json.dumps([architecture, seed], sort_keys=True))
    return BackboneSpec(name, config, tuple(mean), tuple(std), digest, note, seed)
