"""From a name to a config with weights, and the record of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from timm.models import is_model
from torch import Tensor

from proteus.checkpoints import locate, read_state_dict
from proteus.checkpoints.paths import split_part
from proteus.models.backbones.factory import locate_backbone
from proteus.models.backbones.openmmlab import build_backbone
from proteus.models.backbones.timm_names import check_build
from proteus.models.backbones.weight_file import WeightFile, read_weight_file
from proteus.models.heads.head_file import HEADS, heads_state, levels_of
from proteus.models.zoo.known import known_students, known_teachers
from proteus.models.zoo.model_folder import hub_folder, read_model_folder
from proteus.models.zoo.names import find_model
from proteus.models.zoo.record import ModelRecord
from proteus.models.zoo.weights import CHECKPOINTS, find_weights
from proteus.structures import UserError

MAPPED = "mapped"
"""After ``#``: a student with the heads that map its tokens to the teacher's space; ``mapped:NAME`` for one of many."""
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".onnx", ".tar", ".ckpt")


class Located(NamedTuple):
    """A model that was found.

    Attributes:
        config: Config of its backbone, with weights and image size.
        record: Its record.
        state: Its weights, if they had to be read to find it.
    """

    config: dict[str, Any]
    record: ModelRecord
    state: Mapping[str, Tensor] | None = None


def locate_model(
    name: str | Path,
    arch: str | None = None,
    img_size: int | None = None,
    download: bool = False,
    folder: Path = CHECKPOINTS,
) -> Located:
    """Find the config of a model, with its weights and image size, and its record.

    Files and model folders come before names, so that ``OUT`` may be called ``vit_small``.

    Args:
        name: Any name of :func:`~proteus.models.zoo.load_backbone`, with ``#mapped`` behind it for mapped features.
        arch: Name in timm of the architecture of a weight file, if it cannot be detected.
        img_size: Side of the images in pixels; by default the size that the model was trained at.
        download: Download weights that are not on this machine.
        folder: Folder with weight files.

    Raises:
        UserError: As :func:`~proteus.models.zoo.load_backbone`.
    """
    name = str(name)
    if (split_part(name)[1] or "").partition(":")[0] == MAPPED:
        return _mapped(name, locate_model(split_part(name)[0], arch, img_size, download, folder))
    if name.startswith("random:"):
        return _random(name, img_size)
    if name.startswith("hf-hub:"):
        return _from_file(name, *read_model_folder(hub_folder(name, download), img_size))
    path = locate(name)
    exists = path.is_file() or (path / "config.json").is_file()
    if not exists and _is_name(name):
        record = find_model(name)
        return Located(_with_weights(record, find_weights(record, download, folder), img_size), record)
    if path.is_dir():
        return _from_file(name, *read_model_folder(path, img_size))
    is_file_name = path.suffix in _SUFFIXES
    if name.count("/") == 1 and not (is_file_name or path.parent.exists()) and is_model(path.name.split(".")[0]):
        find_model(name)  # of another library, torchvision/resnet18: raises with timm's name
    if "/" in name or exists or is_file_name:
        official = _official(name)
        if official is not None and official.config["type"] == "TimmBackbone":  # cannot be detected in the weights
            arch = arch or official.architecture
        return _from_file(name, read_weight_file(name, arch, img_size))
    find_model(name)  # raises with the nearest names
    raise UserError(f"unknown model '{name}'")


def heads_file(name: str | Path) -> Path:
    """Return the path of the heads of a model folder or weight file; they may be missing."""
    path = locate(name)
    return path / HEADS if path.is_dir() else path.with_name(f"{path.stem}_heads.safetensors")


def build(name: str | Path, config: Mapping[str, Any]) -> Any:
    """Build a backbone; what its constructor refuses is an error of the user.

    Raises:
        UserError: The message begins with ``name``.
    """
    try:
        return build_backbone(dict(config))
    except UserError:
        raise
    except (TypeError, ValueError, AssertionError, ImportError) as error:
        raise UserError(f"{name}: {' '.join(str(error).split())}") from error


def _mapped(name: str, student: Located) -> Located:
    heads = heads_file(split_part(name)[0])
    if not heads.is_file():
        raise UserError(
            f"{name}: {heads} is missing; a run writes the heads with --cfg-options default_hooks.export.heads=True"
        )
    teacher = (split_part(name)[1] or "").partition(":")[2]
    plain = _with_levels(student, levels_of(heads))
    config = {**plain, "type": "MappedBackbone", "backbone": plain["type"], "heads": str(heads)}
    config |= {"teacher": teacher} if teacher else {}
    state = student.state if student.state is not None else read_state_dict(student.config["checkpoint"])
    added = {f"heads.{key}": value for key, value in heads_state(heads, teacher).items()}
    record = replace(
        student.record,
        name=name,
        title=f"{student.record.title}, mapped to the teacher's space".removeprefix(", "),
        width=len(added["heads.patches.shift"]) if "heads.patches.shift" in added else student.record.width,
        params=(student.record.params or 0) + sum(value.numel() for value in added.values()),
    )
    return Located(config, record, {**state, **added})


def _with_levels(student: Located, levels: tuple[int, ...]) -> dict[str, Any]:
    """Return the config of a student that gives the feature levels which its heads read."""
    config = student.config
    if not levels:
        return config
    if config["type"] != "TimmBackbone":  # a ViT of timm's, which it was during training
        sized: dict[str, Any] = {key: config[key] for key in ("img_size", "checkpoint") if key in config}
        config = {"type": "TimmBackbone", "arch": student.record.architecture, **student.record.arguments, **sized}
    return {**config, "levels": levels}


def _is_name(name: str) -> bool:
    if name in known_teachers() or name in known_students() or name.startswith(("timm/", "mmpretrain/")):
        return True
    return "/" not in name and is_model(name.split(".")[0])


def _with_weights(record: ModelRecord, weights: Path, img_size: int | None) -> dict[str, Any]:
    if record.architecture.startswith("mmpretrain."):
        return {**record.config, "init_cfg": {"type": "Pretrained", "checkpoint": str(weights)}}
    return {**record.config, "img_size": img_size or record.img_size, "checkpoint": record.weights or str(weights)}


def _random(name: str, img_size: int | None) -> Located:
    inner, _, seed = name.removeprefix("random:").partition(":")
    known = {**known_teachers(), **known_students()}
    if inner in known or inner.startswith(("timm/", "mmpretrain/")):
        if seed and not seed.isdigit():
            raise UserError(f"{name}: the seed is {seed!r}, write a number: random:{inner}:0")
        record = find_model(inner)
        config = {key: value for key, value in record.config.items() if key != "allow_extra_blocks"}
        if inner in known_students():
            config["patch_size"] = 14
        if not record.architecture.startswith("mmpretrain."):
            config["img_size"] = img_size or record.img_size
            check_build(name, config)
        record = replace(record, patch_size=config.get("patch_size", record.patch_size))
    else:
        spec = locate_backbone(name, img_size=img_size or 224)
        config, record, seed = spec.config, _described(spec.name, spec.config, spec.mean, spec.std), str(spec.seed)
    untrained: dict[str, Any] = {"licence": "", "files": (), "url": "", "hub_id": None, "weights": ""}
    return Located(
        config, replace(record, name=name, title="random weights, not trained", seed=int(seed or 0), **untrained)
    )


def _from_file(name: str, file: WeightFile, licence: str = "") -> Located:
    """Make the record of a weight file; an official file name adds the licence and the title of its model."""
    record = _described(name, file.config, file.mean, file.std)
    official, title = _official(name), file.note
    if official is not None and (official.width, official.patch_size) == (record.width, record.patch_size):
        licence, title = licence or official.licence, official.title
    if file.description is not None and file.description.architecture is not None:
        described = file.description
        record = replace(record, architecture=described.architecture or "", arguments=dict(described.arguments))
    return Located(file.config, replace(record, img_size=file.img_size, licence=licence, title=title), file.state)


def _official(name: str) -> ModelRecord | None:
    """Return the record of the model that was released under a file's name."""
    return next((one for one in known_teachers().values() if locate(name).name in one.files), None)


def _described(name: str, config: Mapping[str, Any], mean: tuple[float, ...], std: tuple[float, ...]) -> ModelRecord:
    """Make a record from a config by building the model without memory."""
    plain = {key: value for key, value in config.items() if key not in ("checkpoint", "init_cfg")}
    with torch.device("meta"):
        model = build(name, plain)
    inner = getattr(model, "vit", getattr(model, "model", model))
    timm_args = dict(getattr(model, "timm_args", {}))
    blocks, size = getattr(inner, "blocks", None), plain.pop("img_size", 224)
    embed = getattr(getattr(inner, "patch_embed", None), "patch_size", None)
    patch_size = config.get("patch_size", embed[0] if isinstance(embed, tuple) else embed)
    return ModelRecord(
        name=name,
        architecture=timm_args.pop("model_name", str(config["type"])),
        arguments=timm_args,
        config=plain,
        patch_size=patch_size if blocks is not None else None,
        img_size=size,
        width=model.embed_dim,
        depth=len(blocks) if blocks is not None else None,
        params=sum(value.numel() for value in inner.parameters()),
        mean=tuple(mean),
        std=tuple(std),
    )
