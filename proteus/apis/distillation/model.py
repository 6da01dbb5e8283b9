"""The model of a distillation run: what its config says, and which objectives and initial weights are possible."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from proteus.apis.auto_values import Auto, Init
from proteus.apis.distillation.config_values import BASE, train_pipeline
from proteus.apis.distillation.data import RunImages
from proteus.config.load import import_custom, read_config
from proteus.config.overrides import check_overrides
from proteus.config.write import config_text
from proteus.models import Distiller
from proteus.models.backbones import TimmBackbone, build_backbone
from proteus.models.backbones.features import NoPatchesError
from proteus.models.backbones.hidden_states import no_hidden_states
from proteus.models.initialization import check_slice
from proteus.models.initialization.slicing.vits import timm_vit
from proteus.structures import ConfigError, UserError

# Top-level keys that change a training step.
_OF_A_STEP = ("custom_imports", "model", "optim_wrapper")
WEIGHT_KEYS = ("checkpoint", "pretrained", "init_cfg.checkpoint")
"""Keys that name the weight file of a backbone: ours, that of OpenMMLab's older configs, and OpenMMLab's."""
# Side in pixels of images that are large enough for any model.
_LARGEST = 1025


def mask_patch_size(student: Mapping[str, Any], size: int, step: int = 1) -> int | None:
    """Return the side in pixels of the patches with which a student can be masked; None if it cannot be.

    Args:
        student: Config of the student.
        size: Side of the images in pixels.
        step: Sides that the teacher takes are multiples of it.

    Raises:
        UserError: The student needs images of another size, or gives no patches without ``levels``.
    """
    if student["type"] == "ViT":
        return int(student["patch_size"])
    if student["type"] != "TimmBackbone":
        return None
    grid = check_images("model.student", student, size, step)
    patch = size // grid[0]
    return patch if (size // patch, size // patch) == grid and grid[0] * grid[1] > 1 else None


def check_images(key: str, config: Mapping[str, Any], size: int, step: int = 1) -> tuple[int, int]:
    """Check that a model of timm's makes patches of images of a size.

    Args:
        key: Key of the model, for messages.
        config: Its config, a ``TimmBackbone``; no weights are read.
        size: Side of the images in pixels.
        step: Sides that the teacher takes are multiples of it.

    Returns:
        ``(h, w)``: patches down and across.

    Raises:
        UserError: It does not; the message names a size, or the key of the levels.
    """
    config = without_weights(config)
    try:
        grid = _grid(config, size)
    except NoPatchesError as error:
        raise UserError(f'{key}: {error.found}; write --cfg-options "{key}.levels=(-1,)"') from error
    if grid is not None:
        return grid
    larger = next((side for side in range(size + step, _LARGEST, step) if _takes({**config, "img_size": side})), None)
    remedy = f"write --img-size {larger}" if larger else f"choose another {key.split('.')[1]}"
    if TimmBackbone.takes_any_size(config):
        remedy += " or more" if larger else ""
        raise UserError(f"images of {size} px are too small for timm/{config['arch']}: {remedy}")
    raise UserError(f"timm/{config['arch']} does not take images of {size} px: {remedy}")


def check_teacher_images(teacher: Mapping[str, Any], size: int, step: int = 1) -> None:
    """Check that a teacher of timm's makes patches of the images that it gets.

    Args:
        teacher: Config of the frozen teacher.
        size: Side of the run's images in pixels.
        step: As for :func:`check_images`.

    Raises:
        UserError: It does not; the message names a size, or the key of the levels.
    """
    if teacher["backbone"]["type"] == "TimmBackbone":
        check_images("model.teacher.backbone", teacher["backbone"], teacher.get("img_size") or size, step)


def _takes(config: Mapping[str, Any]) -> bool:
    try:
        return _grid(config, config["img_size"]) is not None
    except NoPatchesError:
        return True


def _grid(config: Mapping[str, Any], size: int) -> tuple[int, int] | None:
    try:
        with torch.device("meta"):
            grid: tuple[int, int] = build_backbone(dict(config)).grid_for(size)
    except (AssertionError, RuntimeError):  # timm's, of another size, and torch's, of a kernel larger than its map
        return None
    return grid


def model_values(
    teacher: dict[str, Any], student: dict[str, Any], record: Any, maskable: bool = True
) -> dict[str, Any]:
    """Return the model's part of the config, without objectives that teacher and student do not allow.

    Args:
        teacher: Config of the teacher's backbone.
        student: Config of the student.
        record: What is known of the teacher.
        maskable: Whether the student can be masked.
    """
    model: dict[str, Any] = {"teacher": {"backbone": _over_base(teacher)}}
    mean, std = tuple(record.mean), tuple(record.std)
    if (mean, std) != (tuple(IMAGENET_DEFAULT_MEAN), tuple(IMAGENET_DEFAULT_STD)):
        model["data_preprocessor"] = {"mean": mean, "std": std}
        model["teacher"] |= {"mean": mean, "std": std}
    model["student"] = _over_base(student)
    dropped = []
    if not maskable:
        dropped = ["patch"]
    if "clip" in str(teacher.get("arch")):
        dropped = ["feature", "patch"]
    if dropped:
        model["objectives"] = dict.fromkeys(dropped)
    if student["type"] == "ViT" and "patch" in dropped:
        model["student"]["mask_token"] = False
    if student["type"] == "TimmBackbone" and "patch" not in dropped:
        model["student"]["mask_colour"] = "mean"
    return model


def kept_objectives(model: Mapping[str, Any]) -> Auto:
    """Describe the objectives that the config of a model keeps."""
    dropped = model.get("objectives", {})
    kept = [name for name in ("token", "feature", "patch") if name not in dropped]
    student = model["student"]
    few = "the student has too few patches to mask some" if student["type"] == "TimmBackbone" else ""
    whys = {
        0: "the paper's: cls token, all tokens, masked patches"
        + (", in the mean colour" if "mask_colour" in student else ""),
        1: few or "the student cannot be masked",
        2: "the teacher, a CLIP, was trained on its class token alone",
    }
    return Auto(", ".join(kept), whys[len(dropped)])


def allows_hidden_states(model: Distiller) -> bool:
    """Whether the student can learn the teacher's hidden states."""
    student, teacher = model.student, model.teacher.backbone
    lacking = no_hidden_states(student) or no_hidden_states(teacher)
    return not lacking and bool(student.embed_dim <= teacher.embed_dim)


def use_hidden_states(model: dict[str, Any], init: Init) -> Auto:
    """Let a model learn the teacher's hidden states as configs/proteus/vit-s_dinov2-b_plus.py does, in place.

    Args:
        model: Config of the model.
        init: First weights of the student, for the reason that is given.
    """
    model["objectives"] = {
        "hidden": {"type": "HiddenStatesObjective"},
        "token": {"weight": 0.005},
        "feature": {"weight": 0.005},
        "patch": None,
    }
    # No objective is left that reads masked images.
    if model["student"]["type"] == "ViT":
        model["student"]["mask_token"] = False
    model["student"].pop("mask_colour", None)
    why = "a slice keeps what it has" if init == "sliced" else "a short run"
    return Auto("hidden, token, feature", f"{why}: the hidden states of all blocks teach most")


def given_weights(student: Mapping[str, Any]) -> str | None:
    """Return ``KEY=FILE`` of what the config of a student names as its weights; None if it starts at random."""
    for key in WEIGHT_KEYS:
        value: Any = student
        for name in key.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, (str, Path)) or value is True:  # pretrained=True: timm's own
            return f"model.student.{key}={value}"
    return None


def choose_init(wanted: str, model: Distiller, given: str | None = None) -> Auto:
    """Choose the student's initial weights: those of a file, a slice of the teacher's if that is possible, or random.

    Args:
        wanted: ``auto``, ``sliced`` or ``random``.
        model: The model.
        given: What says from which file the student starts, if one does; see :func:`given_weights`.

    Raises:
        UserError: ``wanted`` is unknown, or cannot be had.
    """
    if wanted not in ("auto", "sliced", "random"):
        raise UserError(f"--init: found {wanted!r}, expected auto, sliced or random")
    if given and wanted != "auto":
        raise UserError(
            f"--init {wanted}: --cfg-options {given} also says what the student starts from; leave out one of them"
        )
    if given:
        return Auto("given", f"--cfg-options {given}")
    if wanted == "random":
        return Auto("random", "--init")
    try:
        check_slice(model.student, model.teacher)
    except ValueError as error:
        if wanted == "sliced":
            raise UserError(f"--init sliced: {error}") from error
        both_vits = None not in (timm_vit(model.student), timm_vit(model.teacher.backbone))
        reason = str(error).removeprefix("a sliced initialization ").removeprefix("a slice ")
        return Auto("random", reason if both_vits else "student and teacher are not both ViTs that can be sliced")
    return Auto("sliced", "--init" if wanted == "sliced" else "student and teacher are ViTs of one patch size")


def draft_config(
    model: Mapping[str, Any],
    size: int,
    images: RunImages,
    overrides: Mapping[str, Any],
    mask_patch: int | None,
    optim_wrapper: Mapping[str, Any] | None = None,
) -> Config:
    """Return the config of a step, with a batch of 8 and the overrides of model and optimizer: to build it, to count
    its cost and to time it.
    """
    pipeline = train_pipeline(model, size, "mild", False, mask_patch)
    loader = {"batch_size": 8, "num_workers": 0, "dataset": images.dataset("train", pipeline)}
    values = {"model": dict(model), "train_dataloader": loader, "optim_wrapper": dict(optim_wrapper or {})}
    kept = {key: value for key, value in overrides.items() if key.split(".")[0] in _OF_A_STEP}
    # A key may be one of another recipe, which a run of another length has; the final config is checked with all.
    refused = check_overrides(read_values(values), kept) if kept else {}
    config = read_values(merged(values, {key: value for key, value in kept.items() if key not in refused}))
    import_custom(config.get("custom_imports"), "--cfg-options")
    return config


def merged(values: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a config with overrides by dotted key.

    Raises:
        ConfigError: A key is unknown, or setting it would change nothing.
    """
    if not overrides:
        return values
    problems = check_overrides(read_values(values), overrides)
    if problems:
        raise ConfigError(list(problems.values()), "--cfg-options")
    config = Config(copy.deepcopy(values))
    config.merge_from_dict(dict(overrides))
    found: dict[str, Any] = config.to_dict()
    return found


def without_weights(config: Mapping[str, Any]) -> Any:
    """Return a copy of a config of a model or backbone with random weights."""
    found: dict[str, Any] = copy.deepcopy(dict(config))
    for part in (found, found.get("teacher", {}).get("backbone", {}), found.get("student", {})):
        for key in WEIGHT_KEYS:
            part.pop(key.partition(".")[0], None)
    return found


def _over_base(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a backbone as it is written over that of the base, a ViT."""
    if backbone["type"] == "ViT":
        return dict(backbone)
    return {"_delete_": True, **backbone}


def read_values(values: Mapping[str, Any]) -> Config:
    """Return the config of values over the base of all written configs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.py")
        path.write_text(config_text({"_base_": BASE, **values}), encoding="utf-8")
        return read_config(path)
