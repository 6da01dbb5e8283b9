"""The folder of a distillation run: what it may hold, and the config in it."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from proteus.apis.distillation.config_values import BASE
from proteus.apis.distillation.plan import Plan
from proteus.apis.distillation.request import Request
from proteus.apis.loggers import logger_backends
from proteus.apis.model_cost import GIB
from proteus.config.load import load_config
from proteus.config.write import config_text
from proteus.structures import FullDiskError, UserError
from proteus.utils import write_json, write_text

CONFIG = "config.py"
RUN = "run"
STUDENT = f"{RUN}/student.safetensors"
FACTS = f"{RUN}/card.json"
CARD = "README.md"
LOCK = ".distill.lock"
"""Names in the folder."""
_COMMAND = "#   proteus distill "
_PROCESSES = r"--(?:gpus|processes) \d+"


def command_line(request: Request, out: Path, loggers: Sequence[str] = ()) -> str:
    """Return the command that stands for a request, ``--out`` last."""
    words = ["proteus", "distill", "--teacher", request.teacher, "--student", request.student, "--data"]
    words += [str(request.data)] if isinstance(request.data, (str, Path)) else [str(each) for each in request.data]
    for field in fields(Request)[3:]:
        value = getattr(request, field.name)
        if field.name not in ("download", "overrides", "device", "gpus") and value != field.default:
            words += [f"--{field.name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    if request.device == "cpu" and (request.gpus or 0) > 1:
        words += ["--processes", str(request.gpus)]
    elif request.device == "cpu" or request.gpus is not None:
        words += ["--gpus", "0" if request.device == "cpu" else str(request.gpus)]
    words += ["--logger", ",".join(loggers)] if loggers else []
    if request.overrides:
        words += ["--cfg-options", *(f"{key}={value}" for key, value in request.overrides.items())]
    return shlex.join([*words, "--out", str(out)])


def write_plan(plan: Plan, out: Path, command: str, loggers: Sequence[str] = ()) -> Path:
    """Write the config of a plan, and check it.

    Raises:
        ConfigError: An override does not fit.
        FullDiskError: The disk has no room for the file.
    """
    path = out / CONFIG
    values = {"_base_": BASE, **plan.values, "work_dir": str(out.absolute() / RUN)}
    if loggers:
        backends = logger_backends(loggers, out.absolute() / RUN)
        values["visualizer"] = {"vis_backends": [{"type": "LocalVisBackend"}, *backends]}
    processes = " ".join(["", *re.findall(_PROCESSES, command)])
    header = (
        f"{plan.table['student'].value} from {plan.teacher} on {plan.images.train:,} images. Written by\n"
        f"{_COMMAND.removeprefix('# ')}{command.removeprefix('proteus distill ')}\n"
        f"Train it again with: proteus train CONFIG --work-dir DIR{processes} (or tools/train.py)"
    )
    write_text(path, config_text(values, header, plan.comments))
    try:
        load_config(path)
    except UserError:
        path.unlink()
        raise
    write_json(out / FACTS, {**plan.facts, "command": command}, indent=2)
    return path


def check_folder(out: Path, command: str, resume: bool) -> bool:
    """Return whether ``out`` holds a run to continue.

    Raises:
        UserError: It holds something else, or ``resume`` is not set.
    """
    config = out / CONFIG
    if not config.is_file():
        there = [name for name in (RUN, "model.safetensors", "config.json", "README.md") if (out / name).exists()]
        if there:
            raise UserError(f"--out {out}: holds {', '.join(there)}, which would be overwritten; name another folder")
        if resume:
            raise UserError(f"--out {out}: nothing to resume, since it has no {CONFIG}; leave out --resume")
        return False
    if (out / "model.safetensors").is_file() and not resume:
        raise UserError(f"--out {out}: holds a finished run; name another folder")
    if not resume:
        raise UserError(f"--out {out}: holds an unfinished run; add --resume to continue it, or name another folder")
    recorded = _recorded_command(config)
    # A finished training is only exported, on a machine of any kind.
    left_out = [r" --out \S.*$", *([f" {_PROCESSES}"] if (out / STUDENT).is_file() else [])]
    if recorded is not None and _without(recorded, left_out) != _without(command, left_out):
        raise UserError(
            f"--resume: {config} was written by another command ({recorded}); repeat that one, or name another --out"
        )
    return True


def _recorded_command(config: Path) -> str | None:
    for line in config.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(_COMMAND):
            return line.removeprefix("#").strip()
    return None


def _without(command: str, patterns: Sequence[str]) -> str:
    for pattern in patterns:
        command = re.sub(pattern, "", command)
    return command


def check_space(out: Path, plan: Plan) -> None:
    """Raise :class:`FullDiskError` if the disk is too small for a run."""
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < plan.bytes_needed:
        raise FullDiskError(
            f"{out}: no space left: checkpoints and the model folder take about {plan.bytes_needed / GIB:.1f} GiB, and "
            f"{free / GIB:.1f} GiB are free; make room or name another --out"
        )
