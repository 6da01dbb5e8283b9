"""From a name to a backbone: a model that people know, a weight file, a model folder, a repository of the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from timm.models import is_model
from torch import nn

from proteus.checkpoints import locate, read_state_dict
from proteus.checkpoints.description import GUESTS
from proteus.models.backbones.factory import BackboneSpec, locate_backbone, make_spec
from proteus.models.backbones.openmmlab import build_backbone
from proteus.models.backbones.timm_names import check_build
from proteus.models.backbones.weight_file import WeightFile, read_weight_file
from proteus.models.zoo.known import known_students, known_teachers
from proteus.models.zoo.model_folder import hub_folder, read_model_folder
from proteus.models.zoo.names import find_model
from proteus.models.zoo.record import ModelRecord
from proteus.models.zoo.weights import CHECKPOINTS, find_weights
from proteus.structures import UserError

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".onnx", ".tar", ".ckpt")


def load_backbone(
    name: str | Path,
    *,
    arch: str | None = None,
    img_size: int | None = None,
    download: bool = False,
    device: str | torch.device | None = None,
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

    Returns:
        The backbone in eval mode, without gradients. It encodes images ``(B, 3, H, W)``, normalised with its ``mean``
        and ``std``, and returns :class:`~proteus.structures.Features`. Attributes: ``name``; ``mean`` and ``std`` of
        the channels, for images in [0, 1]; ``img_size`` in pixels; ``patch_size`` in pixels, None for a CNN;
        ``embed_dim``; ``licence`` of the weights, empty if unknown.

    Raises:
        UserError: The name is unknown, its weights are not on this machine, the file holds another architecture, or
            the device does not exist.
    """
    config, record = locate_model(name, arch, img_size, download)
    with torch.random.fork_rng(devices=[]):
        if record.seed is not None:
            torch.manual_seed(record.seed)
        backbone = _build(str(name), config).requires_grad_(False).eval()
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
    config, record = locate_model(name, None, img_size, download)
    if record.seed is not None:
        if str(name).count(":") > 1:
            raise UserError(f"{name}: the seed of the run draws the weights of a teacher; write {_unseeded(name)}")
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
        from difflib import get_close_matches

        near = get_close_matches(name, students, n=2, cutoff=0.4) or [*students]
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
    if not record.architecture.startswith("mmpretrain."):
        config["img_size"] = img_size
        check_build(f"student {name}", config)
    title = record.title if name in students else f"{name.partition('/')[2]}, random weights"
    return config, replace(record, img_size=img_size, title=title, licence="", files=(), url="", hub_id=None)


def backbone_spec(name: str, arch: str | None = None, img_size: int = 224, download: bool = False) -> BackboneSpec:
    """Find out what builds a backbone, for an evaluation: any name of :func:`load_backbone`.

    Raises:
        UserError: As :func:`load_backbone`.
    """
    if not _by_record(name) and not name.startswith("hf-hub:") and not locate(name).is_dir():
        return locate_backbone(name, arch, img_size, download)
    config, record = locate_model(name, arch, img_size, download)
    return make_spec(name, config, record.mean, record.std, record.title, read_state_dict(_weights_of(config)))


def locate_model(
    name: str | Path,
    arch: str | None = None,
    img_size: int | None = None,
    download: bool = False,
    folder: Path = CHECKPOINTS,
) -> tuple[dict[str, Any], ModelRecord]:
    """Find the config of a model, with its weights and image size, and its record.

    Args:
        name: Any name of :func:`load_backbone`.
        arch: Name in timm of the architecture of a weight file, if it cannot be detected.
        img_size: Side of the images in pixels; by default the size that the model was trained at.
        download: Download weights that are not on this machine.
        folder: Folder with weight files.

    Raises:
        UserError: As :func:`load_backbone`.
    """
    name = str(name)
    if name.startswith("random:"):
        return _random(name, img_size)
    if name.startswith("hf-hub:"):
        found, licence = read_model_folder(hub_folder(name, download), img_size)
        return found.config, _record(name, found, licence)
    if _by_record(name):
        record = find_model(name)
        return _with_weights(record, find_weights(record, download, folder), img_size), record
    path = locate(name)
    if path.is_dir():
        found, licence = read_model_folder(path, img_size)
        return found.config, _record(name, found, licence)
    if "/" in name or path.is_file() or path.suffix in _SUFFIXES:
        official = _official(name)
        if official is not None and official.config["type"] == "TimmBackbone":  # cannot be detected in the weights
            arch = arch or official.architecture
        found = read_weight_file(name, arch, img_size)
        return found.config, _record(name, found)
    find_model(name)  # raises with the nearest names
    raise UserError(f"unknown model '{name}'")


def _by_record(name: str) -> bool:
    if name in known_teachers() or name in known_students():
        return True
    if locate(name).exists():
        return False
    return name.startswith(("timm/", "mmpretrain/")) or ("/" not in name and is_model(name.split(".")[0]))


def _with_weights(record: ModelRecord, weights: Path, img_size: int | None) -> dict[str, Any]:
    if record.architecture.startswith("mmpretrain."):
        return {**record.config, "init_cfg": {"type": "Pretrained", "checkpoint": str(weights)}}
    return {**record.config, "img_size": img_size or record.img_size, "checkpoint": record.weights or str(weights)}


def _random(name: str, img_size: int | None) -> tuple[dict[str, Any], ModelRecord]:
    inner, _, seed = name.removeprefix("random:").partition(":")
    known = {**known_teachers(), **known_students()}
    if inner in known or inner.startswith(("timm/", "mmpretrain/")):
        if seed and not seed.isdigit():
            raise UserError(f"{name}: the seed is {seed!r}, write a number: random:{inner}:0")
        record = find_model(inner)
        config = dict(record.config)
        if inner in known_students():
            config["patch_size"] = 14
        config.pop("allow_extra_blocks", None)
        if not record.architecture.startswith("mmpretrain."):
            config["img_size"] = img_size or record.img_size
            check_build(name, config)
        record = replace(record, patch_size=config.get("patch_size", record.patch_size))
    else:
        spec = locate_backbone(name, img_size=img_size or 224)
        config, record, seed = spec.config, _described(spec.name, spec.config, spec.mean, spec.std), str(spec.seed)
    title = "random weights, not trained"
    return config, replace(
        record, name=name, title=title, licence="", files=(), hub_id=None, weights="", seed=int(seed or 0)
    )


def _record(name: str, file: WeightFile, licence: str = "") -> ModelRecord:
    """Make the record of a weight file; an official file name adds the licence and the title of its model."""
    record = _described(name, file.config, file.mean, file.std)
    official = _official(name)
    if official is not None and official.width == record.width and official.patch_size == record.patch_size:
        licence, title = licence or official.licence, official.title
    else:
        title = file.note
    if file.description is not None and file.description.architecture is not None:
        record = replace(record, architecture=file.description.architecture, arguments=dict(file.description.arguments))
    return replace(record, img_size=file.img_size, licence=licence, title=title)


def _official(name: str) -> ModelRecord | None:
    """Return the record of the model that was released under a file's name."""
    return next((one for one in known_teachers().values() if locate(name).name in one.files), None)


def _described(name: str, config: Mapping[str, Any], mean: tuple[float, ...], std: tuple[float, ...]) -> ModelRecord:
    """Make a record from a config by building the model without memory."""
    plain = {key: value for key, value in config.items() if key not in ("checkpoint", "init_cfg", "img_size")}
    size = config.get("img_size", 224)
    with torch.device("meta"):
        model = _build(name, {**plain, **({"img_size": size} if "img_size" in config else {})})
    inner = getattr(model, "vit", getattr(model, "model", model))
    timm_args = dict(getattr(model, "timm_args", {}))
    blocks = getattr(inner, "blocks", None)
    return ModelRecord(
        name=name,
        architecture=timm_args.pop("model_name", str(config["type"])),
        arguments=timm_args,
        config=plain,
        patch_size=config.get("patch_size") or _patch_size(inner) if blocks is not None else None,
        img_size=size,
        width=model.embed_dim,
        depth=len(blocks) if blocks is not None else None,
        params=sum(value.numel() for value in inner.parameters()),
        mean=tuple(mean),
        std=tuple(std),
    )


def _patch_size(model: Any) -> int | None:
    size = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    return size[0] if isinstance(size, tuple) else size


def _build(name: str, config: Mapping[str, Any]) -> Any:
    try:
        return build_backbone(dict(config))
    except UserError:
        raise
    except (TypeError, ValueError, AssertionError, ImportError) as error:
        raise UserError(f"{name}: {' '.join(str(error).split())}") from error


def _move(backbone: nn.Module, device: str | torch.device) -> nn.Module:
    try:
        return backbone.to(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {str(device)!r}: {' '.join(str(error).split())[:200]}") from error


def _weights_of(config: Mapping[str, Any]) -> str:
    return str(config["checkpoint"] if "checkpoint" in config else config["init_cfg"]["checkpoint"])


def _unseeded(name: str | Path) -> str:
    return str(name).rpartition(":")[0]
