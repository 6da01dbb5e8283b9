"""The heads that map a student's tokens to its teacher's space, in a file next to the student's weights.

The heads of several teachers are in one file, under the teachers' names.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from proteus.checkpoints import CheckpointError, load_strictly, read_state_dict
from proteus.checkpoints.errors import DamagedFileError, first_sentence
from proteus.checkpoints.export import check_written
from proteus.checkpoints.paths import check_file
from proteus.models.heads.distill_head import LAYERS, DistillHead
from proteus.structures import UserError
from proteus.utils import atomic_path
from proteus.utils.digest import weights_digest

HEADS = "heads.safetensors"
"""Name of the file in a model folder."""
KINDS = ("cls", "patches")
"""Kinds of tokens that are mapped."""
_KEY = "proteus_heads"
_LARGEST_WIDTH = 65536
_LONGEST = 10_000
_LAST_LEVEL = 1000


class TokenMap(nn.Module):
    """A head, and the scale and shift with which its loss compares (``StandardizedMSELoss``).

    Args:
        head: The head.
        out_dim: Width of the teacher's tokens.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, head: DistillHead, out_dim: int) -> None:
        super().__init__()
        self.head, self.out_dim = head, out_dim
        self.register_buffer("scale", torch.ones(out_dim))
        self.register_buffer("shift", torch.zeros(out_dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(..., in_dim)`` to ``(..., out_dim)``."""
        return torch.addcmul(self.shift, self.head(tokens), self.scale)


def heads_of(distiller: Any) -> dict[str, tuple[DistillHead, Any]]:
    """Return the heads of clean tokens of a distiller and their losses, by kind of token.

    If several objectives have a head for the same tokens, the first counts, as in ``Distiller.predict_tokens``.

    Raises:
        UserError: A token kind in :data:`KINDS` has no head, or its head is not a ``DistillHead``, or does not end in a
            linear layer although the teacher is standardised.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for objective in getattr(distiller, "objectives_by_name", {}).values():
        for kind, head in objective.heads_by_token.items():
            found.setdefault(kind, (head, objective.loss_of(kind)))
    for kind in KINDS:
        head = found.get(kind, (None,))[0]
        if type(head) is not DistillHead:
            what = "has no head" if head is None else f"has the head {type(head).__name__}"
            raise UserError(
                f"ExportStudentHook.heads=True: the model {what} for {kind} tokens of clean images; it needs a "
                "DistillHead for cls and for patches, such as those of TokenObjective and FeatureObjective"
            )
        if getattr(distiller, "standardization", None) is not None and head.layers[-1] != "linear":
            raise UserError(
                f"ExportStudentHook.heads=True: {distiller.key}.standardization is folded into the last linear layer "
                f"of each head when it is exported, but the head for {kind} ends in {head.layers[-1]!r}: write "
                "layers=('norm', 'linear')"
            )
    return {kind: found[kind] for kind in KINDS}


@torch.no_grad()
def write_heads(model: Any, student: Mapping[str, Tensor], path: Path) -> Path:
    """Write the heads of a distiller.

    Args:
        model: A distiller of one student, of one or several teachers.
        student: Weights of its student, under the names with which they are exported.
        path: File to write.

    Raises:
        UserError: As :func:`heads_of`.
        CheckpointError: A weight is not finite; nothing is written.
        FullDiskError: The disk is full; an existing file is unchanged.
    """
    about: dict[str, Any] = {}
    state: dict[str, Tensor] = {}
    for teacher, distiller in getattr(model, "distillers", {"": model}).items():
        described, tensors = _described_heads(distiller)
        about |= {"teachers": {**about.get("teachers", {}), teacher: described}} if teacher else described
        state |= {f"{teacher}.{key}" if teacher else key: value for key, value in tensors.items()}
    check_written(state, path)
    levels = getattr(getattr(model, "student", None), "feature_levels", ())
    if levels:  # the exported weights are those of timm's model, which gives its last map
        about["levels"] = list(levels)
    metadata = {"format": "pt", _KEY: json.dumps({**about, "student": student_digest(student)})}
    with atomic_path(path) as temporary:
        save_file({key: value.detach().float().cpu().contiguous() for key, value in state.items()}, temporary, metadata)
    return path


def _described_heads(distiller: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    about: dict[str, Any] = {}
    state: dict[str, Tensor] = {}
    for kind, (head, loss) in heads_of(distiller).items():
        last = next(layer for layer in head if isinstance(layer, nn.Linear))
        width = last.out_features
        about[kind] = {"in_dim": head.in_dim, "out_dim": width, "layers": list(head.layers)}
        weights = dict(head.state_dict())
        if hasattr(loss, "restore"):  # an affine map of each channel
            zeros = torch.zeros_like(loss.mean)
            shift = loss.restore(zeros)
            scale = loss.restore(zeros + 1) - shift
        else:
            shift, scale = torch.zeros(width), torch.ones(width)
        standardization = getattr(distiller, "standardization", None)
        if standardization is not None:  # it may mix the channels: into the last layer, which is linear
            restore = partial(copy.deepcopy(standardization).double().restore, kind)
            place = len(head) - 1
            scale, shift = scale.double().to(last.weight.device), shift.double().to(last.weight.device)
            weight, bias = last.weight.double(), last.bias.double()
            zero = restore(torch.zeros_like(bias))
            weights[f"{place}.weight"] = (restore((weight * scale[:, None]).T) - zero).T
            weights[f"{place}.bias"] = restore(bias * scale + shift)
            scale, shift = torch.ones(width), torch.zeros(width)
        state |= {f"{kind}.head.{key}": value for key, value in weights.items()}
        state |= {f"{kind}.scale": scale, f"{kind}.shift": shift}
    return about, state


def student_digest(state: Mapping[str, Tensor]) -> str:
    """Digest of a student's weights without position embeddings, which are resampled for other image sizes."""
    return weights_digest({key: value for key, value in state.items() if "pos_embed" not in key})


def teachers_of(path: Path) -> list[str]:
    """Return the names of the teachers that a file of :func:`write_heads` has heads for; empty for one without a name.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    return list(_description(path).get("teachers", {}))


def levels_of(path: Path) -> tuple[int, ...]:
    """Return the feature levels of the patches that a file of :func:`write_heads` maps; empty for the last map.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    return tuple(_description(path).get("levels", ()))


def read_heads(path: Path, student: Mapping[str, Tensor], teacher: str = "") -> nn.ModuleDict:
    """Read heads, as untrusted data.

    Args:
        path: A file of :func:`write_heads`.
        student: Weights of the student that they are for; not compared on the meta device.
        teacher: Name of one of several teachers.

    Returns:
        A ``TokenMap`` for each of :data:`KINDS`.

    Raises:
        CheckpointError: The file is missing or damaged, holds the heads of other weights, or none for the teacher.
    """
    about = _description(path)
    teachers = about.get("teachers", {})
    if teacher not in (teachers or {"": None}):
        raise CheckpointError(
            f"{path} holds the heads for {', '.join(teachers)}: write #mapped:{next(iter(teachers))}, or "
            f"mapped={next(iter(teachers))!r} in Python"
            if teachers
            else f"{path} holds the heads for one teacher, without a name: write #mapped in place of #mapped:{teacher}"
        )
    of_teacher = teachers[teacher] if teacher else about
    meta = any(value.is_meta for value in student.values())
    if not meta and about["student"] != student_digest(student):
        raise CheckpointError(f"{path} holds the heads of other weights; export both again from one run")
    heads = nn.ModuleDict()
    for kind in KINDS:
        options = of_teacher[kind]
        try:
            heads[kind] = TokenMap(DistillHead(**options), options["out_dim"])
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error
    load_strictly(heads, heads_state(path, teacher), path)
    return heads


def heads_state(path: Path, teacher: str = "") -> dict[str, Tensor]:
    """Return the tensors of a teacher's heads: ``cls.head.0.weight`` and so on."""
    prefix = f"{teacher}." if teacher else ""
    state = read_state_dict(path)
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _description(path: Path) -> dict[str, Any]:
    check_file(path, "heads")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY, "")
    except Exception as error:  # safetensors raises a type that it does not export
        raise DamagedFileError(f"{path} cannot be read as heads ({first_sentence(error)})") from error
    try:
        content = json.loads(text) if len(text) <= _LONGEST else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("student"), str):
        raise CheckpointError(f"{path} does not describe heads (metadata '{_KEY}'); export the student again")
    teachers = content.get("teachers", {"": content})
    levels = content.get("levels", [])
    known = isinstance(levels, list) and all(type(each) is int and 0 <= each <= _LAST_LEVEL for each in levels)
    known = known and isinstance(teachers, dict) and all(isinstance(each, dict) for each in teachers.values())
    if not known or not teachers or not all(_is_valid(each.get(kind)) for each in teachers.values() for kind in KINDS):
        raise CheckpointError(f"{path}: metadata '{_KEY}' is not what Proteus writes; export the student again")
    return content


def _is_valid(options: Any) -> bool:
    if not isinstance(options, dict) or set(options) != {"in_dim", "out_dim", "layers"}:
        return False
    widths, layers = (options["in_dim"], options["out_dim"]), options["layers"]
    return (
        all(type(width) is int and 1 <= width <= _LARGEST_WIDTH for width in widths)
        and isinstance(layers, list)
        and len(layers) <= len(LAYERS)
        and all(layer in LAYERS for layer in layers)
    )
