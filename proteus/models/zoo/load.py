"""Backbones by name, and the configs of teachers and students."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from proteus.checkpoints import read_state_dict
from proteus.checkpoints.description import GUESTS
from proteus.checkpoints.paths import split_part
from proteus.models.backbones.factory import BackboneSpec, make_spec
from proteus.models.backbones.timm_names import check_build
from proteus.models.zoo.known import known_students
from proteus.models.zoo.locate import MAPPED, build, locate_model
from proteus.models.zoo.names import find_model
from proteus.models.zoo.record import ModelRecord
from proteus.structures import UserError


def load_backbone(
    name: str | Path,
    *,
    arch: str | None = None,
    img_size: int | None = None,
    download: bool = False,
    device: str | torch.device | None = None,
    mapped: bool | str = False,
) -> nn.Module:
    """Load a frozen backbone by name.

    Args:
        name: A name of :func:`~proteus.models.zoo.list_models` (``dinov2_vitb14``); ``timm/NAME``;
            ``mmpretrain/NAME``; a weight file, with ``#ema`` and the like behind it; a folder with ``config.json`` and
            ``model.safetensors``; ``hf-hub:OWNER/NAME``; ``package:NAME/FILE``; or ``random:NAME:SEED`` for a model
            without training.
        arch: Name in timm of the architecture of a weight file, if it cannot be detected (CNNs).
        img_size: Side of the images in pixels; by default the size that the model was trained at.
        download: Download weights that are not on this machine from the Hugging Face hub.
        device: Device to load it on; the CPU by default.
        mapped: Map the tokens to the teacher's space by the heads that the student was trained with, as ``#mapped``
            behind the name does. Only students that were exported with their heads have them. For one of several
            teachers, its name: ``mapped="dinov2"``, or ``#mapped:dinov2``.

    Returns:
        The backbone in eval mode, without gradients. It encodes images ``(B, 3, H, W)``, normalised with its ``mean``
        and ``std``, and returns :class:`~proteus.structures.Features`. Attributes: ``name``; ``mean`` and ``std`` of
        the channels, for images in [0, 1]; ``img_size`` in pixels; ``patch_size`` in pixels, None for a CNN;
        ``embed_dim``; ``licence`` of the weights, empty if unknown.

    Raises:
        UserError: The name is unknown, its weights are not on this machine, the file holds another architecture, or
            the device does not exist.
    """
    if mapped and (split_part(name)[1] or "").partition(":")[0] != MAPPED:
        name = f"{name}#{MAPPED}" if mapped is True else f"{name}#{MAPPED}:{mapped}"
    config, record, _ = locate_model(name, arch, img_size, download)
    with torch.random.fork_rng(devices=[]):
        if record.seed is not None:
            torch.manual_seed(record.seed)
        backbone = build(name, config).requires_grad_(False).eval()
    backbone.name = record.name
    backbone.mean, backbone.std = record.mean, record.std
    backbone.img_size = config.get("img_size", img_size or record.img_size)
    backbone.patch_size = record.patch_size
    backbone.licence = record.licence
    return backbone if device is None else _move(backbone, device)


def teacher_config(
    name: str | Path, img_size: int | None = None, download: bool = False
) -> tuple[dict[str, Any], ModelRecord]:
    """Make the config of a teacher's backbone, and check its weights.

    Args:
        name: Any name of :func:`load_backbone`. The weights of ``random:NAME`` are drawn by the run, with its seed.
        img_size: Side of the images in pixels; by default the size that the model was trained at.
        download: Download weights that are not on this machine.

    Returns:
        A config for ``model.teacher.backbone``, and the model's record.

    Raises:
        UserError: As :func:`load_backbone`.
    """
    config, record, _ = locate_model(name, None, img_size, download)
    if record.seed is not None:
        if str(name).count(":") > 1:
            raise UserError(
                f"{name}: the seed of the run draws the weights of a teacher; write {str(name).rpartition(':')[0]}"
            )
        return config, record
    if str(config["type"]).partition(".")[0] not in GUESTS:
        check_build(str(name), config)
    return config, record


def student_config(name: str, patch_size: int, img_size: int) -> tuple[dict[str, Any], ModelRecord]:
    """Make the config of a student, which starts from random weights.

    Args:
        name: ``vit_tiny``, ``vit_small``, ``vit_base``, ``vit_large``, ``timm/NAME`` or ``mmpretrain/NAME``.
        patch_size: Side of a patch in pixels, for ``vit_*``; the others have their own.
        img_size: Side of the images in pixels.

    Returns:
        A config for ``model.student``, and the student's record.

    Raises:
        UserError: The name is unknown, has a tag of weights, or cannot be built for images of this size.
    """
    students = known_students()
    if name not in students and not name.startswith(("timm/", "mmpretrain/")):
        stem = name.rpartition("/")[2]  # torchvision/resnet18
        of_timm = [f"timm/{stem}"] if timm.is_model(stem) else []
        near = of_timm or get_close_matches(name, students, n=2, cutoff=0.4) or [*students]
        raise UserError(
            f"unknown student '{name}'; nearest: {', '.join(near)}. Write one of {', '.join(students)}, timm/NAME or "
            "mmpretrain/NAME"
        )
    if name.startswith("timm/") and "." in name:
        raise UserError(f"student {name}: a student starts from random weights; write {name.split('.')[0]}")
    record = find_model(name)
    config = dict(record.config)
    if name in students:
        config["patch_size"] = patch_size
        record = replace(record, patch_size=patch_size)
    if "img_size" in config or not record.architecture.startswith("mmpretrain."):
        config["img_size"] = img_size
        check_build(f"student {name}", config)
    title = record.title if name in students else f"{name.partition('/')[2]}, random weights"
    return config, replace(record, img_size=img_size, title=title, licence="", files=(), url="", hub_id=None)


def backbone_spec(
    name: str, arch: str | None = None, img_size: int | None = None, download: bool = False
) -> BackboneSpec:
    """Find out what builds a backbone, for an evaluation.

    Args:
        name: Any name of :func:`load_backbone`.
        arch: Name in timm of the architecture of a weight file, if it cannot be detected.
        img_size: Side of the images in pixels; by default the size that the model was trained at.
        download: Download weights that are not on this machine.

    Raises:
        UserError: As :func:`load_backbone`.
    """
    config, record, state = locate_model(name, arch, img_size, download)
    if state is None and record.seed is None:
        state = read_state_dict(config["checkpoint"] if "checkpoint" in config else config["init_cfg"]["checkpoint"])
    return make_spec(name, config, record.mean, record.std, record.title, state, record.seed)


def _move(backbone: nn.Module, device: str | torch.device) -> nn.Module:
    try:
        return backbone.to(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {str(device)!r}: {' '.join(str(error).split())[:200]}") from error
