"""Peers in ``study.py``: the same teacher, pictures and student in another toolbox, in a separate environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from study_contenders import COMMON, Contender

from proteus.apis import load_config
from proteus.checkpoints import export_backbone
from proteus.checkpoints.convert import convert
from proteus.models.backbones import build_backbone
from proteus.structures import UserError
from proteus.utils import read_json

if TYPE_CHECKING:
    from study_runs import Run, Settings

PEERS = {"lightly-train": Path(__file__).parent / "peers/lightly_train.py"}
"""Script of each peer, for the interpreter of its environment."""
_PYTHON = {"lightly-train": "LIGHTLY_TRAIN_PYTHON"}
_MODULES = {"lightly-train": "lightly_train"}
_FILE = "run.json"


def check_peers(contenders: Iterable[Contender]) -> None:
    """Check that the environments of all peers are there.

    Raises:
        UserError: One is missing; the message has the commands that make it.
    """
    for peer in sorted({each.peer for each in contenders if each.peer}):
        python = os.environ.get(_PYTHON[peer])
        if python is None or not _has_module(python, _MODULES[peer]):
            found = f"${_PYTHON[peer]} is not set" if python is None else f"{python} has no {_MODULES[peer]}"
            raise UserError(
                f"{peer}: {found}; make its environment (python -m venv ENV && ENV/bin/pip install "
                f'"lightly-train==0.18.*" timm torch=={torch.__version__.partition("+")[0]}), and '
                f"export {_PYTHON[peer]}=ENV/bin/python; or leave it out with --runs"
            )


@cache
def _has_module(python: str, module: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    try:
        return subprocess.run([python, "-c", code], capture_output=True).returncode == 0
    except OSError:
        return False


def peer_command(run: Run, settings: Settings, out: Path) -> list[str]:
    """Return the command that trains a run of a peer."""
    peer = run.contender.peer
    batch = load_config(COMMON).train_dataloader.batch_size
    values: dict[str, Any] = {
        "data": settings.data / "photos/imagenet",
        "teacher": write_teacher(settings.out / "teacher_dinov2.pth"),
        "out": out,
        "steps": settings.views // batch,
        "batch": batch,
        "seed": run.seed,
        "threads": settings.threads,
    }
    if run.rate is not None:
        values["lr"] = run.rate
    python = os.environ[_PYTHON[peer]]
    return [python, str(PEERS[peer]), *(word for name, value in values.items() for word in (f"--{name}", str(value)))]


def write_teacher(path: Path) -> Path:
    """Write the teacher's weights with DINOv2's names, positions as at the study's image size."""
    if not path.is_file():
        teacher: Any = build_backbone(dict(load_config(COMMON).model.teacher.backbone))
        state = {**teacher.timm_state(), "mask_token": torch.zeros(1, teacher.embed_dim)}
        source = export_backbone(state, path.with_suffix(".safetensors"), {})
        convert(source, path, "dinov2")
        source.unlink()
    return path


def read_peer(folder: Path) -> dict[str, Any]:
    """Return the facts of a finished run of a peer, and write its student as one of ours is.

    Args:
        folder: What the peer's script wrote.
    """
    facts: dict[str, Any] = read_json(folder / _FILE)
    student = facts.pop("student")
    normalisation = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    state = torch.load(folder / "student.pth", weights_only=True)
    export_backbone(state, folder / "student.safetensors", {**student, **normalisation})
    return {"images_per_second": facts["images_per_second"], "versions": facts["versions"]}
