"""Checks that the parts of a distiller fit each other, when it is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from proteus.models.backbones.hidden_states import no_hidden_states
from proteus.models.backbones.levels import token_width
from proteus.structures import UserError

if TYPE_CHECKING:
    from proteus.models.distillers.distiller import Distiller


def check_distiller(model: Distiller, compile_student: bool | Mapping[str, Any]) -> None:
    """Check objectives, student, teacher and ``compile_student`` of a distiller.

    The mask token or learnt colour of the student is frozen if no objective reads masks.

    Raises:
        ValueError: Two of them do not fit each other; the message names the keys.
    """
    check_compiled_parts(model.key, model.micro_batches, compile_student)
    _check_objectives(model)
    check_micro_batches(model, model.micro_batches)
    _check_teacher(model)
    size = getattr(model.student, "img_size", None)
    if size is not None:  # one that takes any size is asked at the first step
        check_grids(model, (size, size))
    _check_masking(model)


def check_grids(model: Distiller, size: tuple[int, int]) -> None:
    """Check that ``grids`` of a distiller is possible for images of a size.

    Raises:
        UserError: It is not; the message names the keys.
    """
    grids, teacher = model.grids, model.teacher
    if not model.compares_patches or teacher.embed_dim == 0:
        return
    if teacher.img_size is not None:
        grids.check(model.student.grid_for(size), teacher.grid_for(size))
    if hasattr(model.data_preprocessor, "shift") and grids.match not in ("auto", "teacher_size", "student"):
        raise UserError(
            f"{grids.key}.match={grids.match!r}: {type(model.data_preprocessor).__name__} shifts views by whole "
            "patches of the student and compares them on its grid: write match='student' or match='teacher_size'"
        )
    patch = getattr(model.data_preprocessor, "patch_size", None)  # by which views are shifted
    own = model.student.grid_for(size)
    if isinstance(patch, int) and own != (size[0] // patch, size[1] // patch):
        raise UserError(
            f"model.data_preprocessor.patch_size={patch}: {model.student_key} has {own[0]}x{own[1]} patches of images "
            f"of {size[0]}x{size[1]} px; write patch_size={size[0] // own[0]}"
        )
    teacher.input_size(size)  # raises if `match` is not possible


def check_micro_batches(model: Distiller, count: int) -> None:
    """Check that no objective compares images that micro-batches would keep apart.

    Args:
        model: The distiller of one student.
        count: Number of micro-batches of a step.

    Raises:
        ValueError: An objective does; the message names it.
    """
    needing = [name for name, objective in model.objectives_by_name.items() if objective.needs_whole_batch]
    if count > 1 and needing:
        raise ValueError(
            f"{model.key}.objectives {needing} compare all images of a batch with each other, and "
            f"model.micro_batches={count} processes them in separate parts: write micro_batches=1, or give "
            "TokenRelationObjective queue_size=1024, for tokens of earlier steps"
        )


def check_compiled_parts(key: str, micro_batches: int, compile_student: bool | Mapping[str, Any]) -> None:
    """Check that a compiled student makes no CUDA graphs where a step has several parts.

    Args:
        key: Key of the model in the config, for messages.
        micro_batches: Number of micro-batches of a step.
        compile_student: As for :class:`Distiller`.

    Raises:
        ValueError: It does; the message names the mode.
    """
    mode = compile_student.get("mode") if isinstance(compile_student, Mapping) else None
    if micro_batches > 1 and mode in ("reduce-overhead", "max-autotune"):
        raise ValueError(
            f"{key}.compile_student.mode={mode!r} makes CUDA graphs, and the next of "
            f"model.micro_batches={micro_batches} would overwrite their memory before the backward pass: write "
            "mode='max-autotune-no-cudagraphs', or micro_batches=1"
        )


def check_head(key: str, head: nn.Module, student_dim: int, teacher_dim: int) -> None:
    """Check that a head maps tokens of the student's width to the teacher's.

    Args:
        key: Key of the head in the config, for messages.
        head: The head.
        student_dim: Width of the student's tokens.
        teacher_dim: Width of the teacher's tokens.

    Raises:
        ValueError: The head has other widths.
    """
    device = next((parameter.device for parameter in head.parameters()), torch.get_default_device())
    training = head.training
    try:
        with torch.no_grad():
            width = head.eval()(torch.zeros(1, student_dim, device=device)).shape[-1]
    except RuntimeError as error:
        raise ValueError(f"{key}: {type(head).__name__} does not take the student's width {student_dim}") from error
    finally:
        head.train(training)
    if width != teacher_dim:
        raise ValueError(f"{key}: {type(head).__name__} gives width {width}, and the teacher's tokens {teacher_dim}")


def _check_objectives(model: Distiller) -> None:
    objectives = model.objectives_by_name
    if not objectives:
        raise ValueError(f"{model.key}.objectives is empty: give at least one objective")
    own = [name for name, objective in objectives.items() if objective.cls_term is None]
    for name, objective in objectives.items():
        if objective.cls_term is not None and objective.cls_term not in own:
            raise ValueError(
                f"{model.key}.objectives.{name}.cls_term={objective.cls_term!r} must name an objective that computes "
                f"its own term ({', '.join(own) or 'none here'}); write cls_term=None for a second head"
            )


def _check_teacher(model: Distiller) -> None:
    teacher = model.teacher
    if model.standardization is not None and teacher.embed_dim == 0:
        raise ValueError(
            f"{model.key}.standardization needs a teacher, and {model.teacher_key} has no features: remove it"
        )
    backbone = getattr(teacher, "backbone", None)
    if backbone is not None and token_width(backbone, "patches") != teacher.embed_dim:
        raise ValueError(
            f"{model.teacher_key}.backbone has cls tokens of width {teacher.embed_dim} and patches of width "
            f"{token_width(backbone, 'patches')}, and a teacher's are equal: remove {model.teacher_key}.backbone.levels"
        )
    for name, objective in model.objectives_by_name.items():
        key = f"{model.key}.objectives.{name}"
        if objective.needs_teacher and teacher.embed_dim == 0:
            raise ValueError(
                f"{key} needs a teacher, and {model.teacher_key} is {type(teacher).__name__}: give one, or keep only "
                "objectives on labels"
            )
        if objective.needs_logits and teacher.classifier is None:
            raise ValueError(
                f"{key} needs a teacher that classifies: set {model.teacher_key}.classifier, for instance "
                "dict(type='LinearClassifier', checkpoint='checkpoints/dinov2_vitb14_linear4_head.pth')"
            )
        classes = getattr(teacher.classifier, "num_classes", None)
        if objective.needs_logits and classes != objective.num_classes:
            raise ValueError(
                f"{key}.num_classes={objective.num_classes}, but {model.teacher_key}.classifier has {classes} classes: "
                "make them equal"
            )
        for part, backbone in (("student", model.student), ("teacher.backbone", getattr(teacher, "backbone", None))):
            reason = no_hidden_states(backbone) if objective.needs_hidden_states else ""
            if reason:
                raise ValueError(f"{key} needs the hidden states of {part}, and {reason}, or remove the objective")
        heads = objective.heads_by_token
        widths = {kind: token_width(model.student, kind) for kind in heads}
        if len(set(widths.values())) > 1:
            raise ValueError(
                f"{key} maps cls and patches, of which {model.student_key}.levels makes the widths {widths['cls']} and "
                f"{widths['patches']}: write cls_term='token', the name of an objective on the cls token"
            )
        for kind, head in heads.items():
            check_head(f"{key}.head", head, widths[kind], teacher.embed_dim)


def mask_parameter(student: Any) -> Any:
    """Return the parameter with which a student masks patches, its mask token or learnt colour; None without one."""
    token = getattr(student, "mask_token", None)
    return getattr(student, "learnt_colour", None) if token is None else token


def _check_masking(model: Distiller) -> None:
    student, learnt = model.student, mask_parameter(model.student)
    if model.needs_masks and learnt is None and getattr(student, "mask_colour", None) is None:
        needing = [name for name, objective in model.objectives_by_name.items() if objective.needs_masks]
        key = model.student_key
        remedies = {"mask_token": f"set {key}.mask_token=True", "mask_colour": f"write {key}.mask_colour='mean'"}
        remedy = next((remedies[name] for name in remedies if hasattr(student, name)), "remove them")
        raise ValueError(f"objectives {needing} need a student that can mask: {remedy}")
    if learnt is not None and not model.needs_masks and "student" in model._modules:  # not that of several teachers
        # DistributedDataParallel waits for the gradient of every parameter that requires one.
        learnt.requires_grad_(False)
