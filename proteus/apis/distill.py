"""Distil a teacher into a student on one's own images: ``proteus distill``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from proteus.apis.auto_values import this_machine
from proteus.apis.distillation.folder import (
    CONFIG,
    LOCK,
    STUDENT,
    check_folder,
    check_space,
    command_line,
    load_run,
    write_plan,
)
from proteus.apis.distillation.plan import make_plan
from proteus.apis.distillation.request import Request
from proteus.apis.distillation.results import DistillResult, finish
from proteus.apis.launch import run_on
from proteus.apis.resources import check_out_folder
from proteus.apis.training import train
from proteus.compat import hide_gpus
from proteus.structures import UserError
from proteus.utils import exclusive

__all__ = ["DistillResult", "Request", "distill", "prepare"]


def distill(
    teacher: str,
    student: str = "vit_small",
    *,
    data: str | Path | Sequence[str | Path],
    out: str | Path,
    epochs: float | None = None,
    iters: int | None = None,
    hours: float | None = None,
    batch_size: int | str = "auto",
    lr: float | str = "auto",
    img_size: int | str = "auto",
    workers: int | str = "auto",
    precision: str = "auto",
    init: str = "auto",
    seed: int = 0,
    gpus: int | None = None,
    device: str | None = None,
    download: bool = False,
    loggers: Sequence[str] = (),
    resume: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> DistillResult:
    """Distil a teacher into a student on a folder of images, and write a model folder.

    Writes ``OUT/config.py``, trains it as ``proteus train OUT/config.py`` does, and exports the student. Values that
    are ``auto`` are chosen from the images and the machine, printed, and written in the config
    (docs/distil.md#automatic-values).

    Args:
        teacher: Name, weight file or folder of the teacher, as :func:`proteus.load_backbone` takes it.
        student: ``vit_tiny``, ``vit_small``, ``vit_base``, ``vit_large``, ``timm/NAME`` or ``mmpretrain/NAME``.
        data: Folder of images with any subfolders, several of them, or ``packaged``. A few per cent of the images,
            chosen by name, are held out for validation.
        out: Folder to write.
        epochs: Length of the run in passes over the images.
        iters: Length in iterations.
        hours: Length in hours, by the measured time of a step.
        batch_size: Images of a step of one process.
        lr: Peak learning rate.
        img_size: Side of the images in pixels.
        workers: Data-loading processes per training process.
        precision: ``auto``, ``bfloat16`` or ``float32``.
        init: ``auto``, ``sliced`` (from the teacher's weights; docs/initialization.md) or ``random``.
        seed: Seed of the run.
        gpus: Number of GPUs, one process each; 0 for the CPU. With ``device="cpu"`` the number of processes.
        device: ``cpu`` or ``cuda``; by default a GPU if there is one.
        download: Let the teacher's weights come from their hub if they are not on this machine.
        loggers: Some of ``tensorboard``, ``wandb``, ``mlflow``, or ``none``; by default TensorBoard.
        resume: Continue the run in ``out``, which may have been moved. What is trained must be as before; ``workers``,
            ``gpus``, ``device``, ``loggers`` and the overrides of logs, checkpoints and corrupt images may differ.
        overrides: Values by dotted config key, as ``--cfg-options`` takes them; they are written in the config.

    Returns:
        The folder, the student's weights and its metrics.

    Raises:
        UserError: An argument is wrong, ``out`` holds another run, or weights, GPUs or disk space are missing.
        LockedError: Another process continues the run in ``out``.
        DataError: A folder has too few images.
        ConfigError: Values do not fit each other.
    """
    request = Request(
        teacher=teacher,
        student=student,
        data=data,
        epochs=epochs,
        iters=iters,
        hours=hours,
        batch_size=batch_size,
        lr=lr,
        img_size=img_size,
        workers=workers,
        precision=precision,
        init=init,
        seed=seed,
        gpus=gpus,
        device=device,
        download=download,
        overrides=dict(overrides or {}),
    )
    folder = prepare(request, out, loggers, resume)
    start = time.time()
    with _locked(folder):
        if not (folder / STUDENT).is_file():
            _train(folder, request, loggers, resume)
        return finish(folder, None if resume else time.time() - start)


def prepare(request: Request, out: str | Path, loggers: Sequence[str] = (), resume: bool = False) -> Path:
    """Resolve a request, print the values and write ``config.py``; with ``resume``, check that it is there.

    Raises:
        UserError: As :func:`distill`.
    """
    folder = check_out_folder(out)
    command = command_line(request, folder, loggers)
    machine = this_machine(request.device, request.gpus)
    if check_folder(folder, command, resume):
        return folder
    plan = make_plan(request, machine)
    check_space(folder, plan)
    with _locked(folder):
        check_folder(folder, command, resume)  # while this call planned, another may have begun there
        write_plan(plan, folder, command, loggers)
    print(f"{plan.format_table()}\n\nconfig: {folder / CONFIG}\n", flush=True)
    return folder


def _locked(folder: Path) -> AbstractContextManager[Any]:
    return exclusive(folder, "distilling", name=LOCK, remedy="wait for it, or name another folder with --out")


def _train(folder: Path, request: Request, loggers: Sequence[str], resume: bool) -> None:
    machine = this_machine(request.device, request.gpus)
    if not machine.has_gpu:
        _hide_gpus()
    cfg, arguments = load_run(folder, request, loggers, resume)
    if machine.processes > 1:
        status = run_on(machine.processes, ["train", *arguments, "--launcher", "pytorch"], cpu=not machine.has_gpu)
        if status:
            raise SystemExit(status)  # the processes have printed the reason
        return
    train(cfg, "auto" if resume else None)


def _hide_gpus() -> None:
    if torch.cuda.is_available():
        if torch.cuda.is_initialized():
            raise UserError("device='cpu': this process already uses a GPU; start Python with CUDA_VISIBLE_DEVICES=''")
        hide_gpus()
