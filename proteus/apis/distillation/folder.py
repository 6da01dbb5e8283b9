"""The folder of a distillation run: what it may hold, and the config in it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from mmengine.config import Config

from proteus.apis.distillation.config_values import BASE
from proteus.apis.distillation.plan import Plan
from proteus.apis.distillation.request import Request
from proteus.apis.loggers import logger_backends, use_loggers
from proteus.apis.model_cost import GIB
from proteus.config.load import load_config
from proteus.config.write import config_text, relative_to_config
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
# Options that do not change what is trained, only where and with which logs.
_FREE = ("--out", "--workers", "--logger", "--gpus", "--processes")
_FREE_KEYS = (
    "default_hooks.checkpoint",
    "default_hooks.corrupt_images",
    "default_hooks.logger",
    "env_cfg",
    "log_level",
    "log_processor",
    "visualizer",
)


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
    work_dir = out.absolute() / RUN
    here = relative_to_config(out, RUN)
    values = {"_base_": BASE, **plan.values, "work_dir": here}
    if loggers:
        backends = _moved(logger_backends(loggers, work_dir), work_dir, here)
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


def load_run(out: Path, request: Request, loggers: Sequence[str], resume: bool) -> tuple[Config, list[str]]:
    """Load the config of a run from its folder, which may have been moved or copied.

    Args:
        out: The folder.
        request: With ``resume``, its options that may differ from the first command's replace those of the config.
        loggers: With ``resume``, replace those of the config.
        resume: Continue the run.

    Returns:
        The config, and the arguments with which ``proteus train`` makes the same of the file.
    """
    work_dir = out.absolute() / RUN
    changes = {key: value for key, value in request.overrides.items() if _is_free(key)} if resume else {}
    if resume and request.workers != "auto":
        changes["train_dataloader.num_workers"] = request.workers
        changes["train_dataloader.persistent_workers"] = request.workers != 0
    cfg = load_config(out / CONFIG, changes)
    written, cfg.work_dir = Path(cfg.work_dir), str(work_dir)
    if cfg.get("visualizer") and written.is_absolute():  # some configs name the folder in which they were written
        cfg.visualizer = _moved(cfg.visualizer.to_dict(), written, str(work_dir))
    if resume and loggers:
        use_loggers(cfg, loggers)
    arguments = [str(out / CONFIG), "--work-dir", str(work_dir)]
    arguments += ["--resume"] if resume else []
    arguments += ["--logger", ",".join(loggers)] if resume and loggers else []
    arguments += ["--cfg-options", *(f"{key}={value}" for key, value in changes.items())] if changes else []
    return cfg, arguments


def _moved(value: Any, before: Path, after: str) -> Any:
    """Return a copy of a part of a config with another folder in its paths and URIs."""
    if isinstance(value, Mapping):
        return {key: _moved(item, before, after) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(item, before, after) for item in value)
    if isinstance(value, str):
        return value.replace(before.absolute().as_uri(), f"file://{after}").replace(str(before), after)
    return value


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
    changed = [] if recorded is None else _changed(recorded, command, trained=(out / STUDENT).is_file())
    if changed:
        processes = " ".join(["", *re.findall(_PROCESSES, str(recorded))])
        raise UserError(
            f"--resume: {config} was written {'; '.join(changed)}; leave that as it was, name another --out, or "
            f"change the config by proteus train {config} --resume{processes} --cfg-options KEY=VALUE"
        )
    return True


def _recorded_command(config: Path) -> str | None:
    for line in config.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(_COMMAND):
            return line.removeprefix("#").strip()
    return None


def _changed(recorded: str, command: str, trained: bool) -> list[str]:
    """Describe the options of two commands that differ and change the training."""
    then, now = _options(recorded), _options(command)
    changed = []
    for name in dict.fromkeys([*then, *now]):
        before, after = then.get(name, []), now.get(name, [])
        if before == after or name in _FREE or _is_free(name) or (trained and name == "processes"):
            continue
        if name in ("--teacher", "--data") and [*map(os.path.realpath, before)] == [*map(os.path.realpath, after)]:
            continue
        changed.append(f"{_shown(name, before)}, not {_shown(name, after)}")
    return changed


def _shown(name: str, words: Sequence[str]) -> str:
    if not words:
        return f"without {name}"
    return f"with {name} {shlex.join(words)}" if name.startswith("--") else f"with {name}={words[0]}"


def _options(command: str) -> dict[str, list[str]]:
    """Return the words of each option of a command, the values of its overrides by key, and its number of processes."""
    found: dict[str, list[str]] = {}
    option = ""
    for word in shlex.split(command)[2:]:
        key, equals, value = word.partition("=")
        if word.startswith("--"):
            option = word
            found[option] = []
        elif option == "--cfg-options" and equals:
            found[key] = [value]
        else:
            found[option].append(word)
    found.pop("--cfg-options", None)
    count = [*found.get("--gpus", []), *found.get("--processes", []), "1"][0]
    found["processes"] = ["1" if count == "0" else count]
    return found


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in _FREE_KEYS)


def check_space(out: Path, plan: Plan) -> None:
    """Raise :class:`FullDiskError` if the disk is too small for a run."""
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < plan.bytes_needed:
        raise FullDiskError(
            f"{out}: no space left: checkpoints and the model folder take about {plan.bytes_needed / GIB:.1f} GiB, and "
            f"{free / GIB:.1f} GiB are free; make room or name another --out"
        )
