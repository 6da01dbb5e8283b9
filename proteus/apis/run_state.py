"""State of a run: default hooks, locks, resuming, stopping, full disks."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from proteus.apis.resources import check_out_folder
from proteus.compat import handle_log_errors
from proteus.config.suggestions import near_file
from proteus.engine.hooks import AtomicCheckpointHook, ResumeSettingsHook, SaveOnSignalHook, StoppedBySignal
from proteus.engine.runner import leave_processes
from proteus.structures import ConfigError, FullDiskError, UserError
from proteus.utils import disk_full_errors, exclusive
from proteus.utils.atomic import is_disk_full

PICTURES_LOCK = ".pictures.lock"
"""Name of the lock file in folders of pictures."""
_MMENGINES = ("CheckpointHook", "mmengine.CheckpointHook", CheckpointHook)
# Folders with a reported full disk.
_WARNED: set[str] = set()
_RUN_HOOKS = {
    "resume_settings": "proteus.ResumeSettingsHook",
    "metrics_log": "proteus.MetricsLogHook",
    "stop_on_nan": "proteus.StopOnNaNHook",
    "save_on_signal": "proteus.SaveOnSignalHook",
    "batch_norm": "proteus.BatchNormHook",
}


def add_run_hooks(cfg: Config) -> None:
    """Add our default hooks to a config; ``default_hooks.<name>=None`` removes one."""
    hooks = dict(cfg.get("default_hooks") or {})
    checkpoint = hooks.get("checkpoint", {"type": "CheckpointHook", "interval": 1})
    if checkpoint is not None and checkpoint.get("type", "CheckpointHook") in _MMENGINES:
        hooks["checkpoint"] = {**checkpoint, "type": "proteus.AtomicCheckpointHook"}
    there = {str(hook.get("type")).rpartition(".")[2] for hook in cfg.get("custom_hooks") or []}
    for name, kind in _RUN_HOOKS.items():
        if name not in hooks and kind.removeprefix("proteus.") not in there:
            hooks[name] = {"type": kind}
    cfg.default_hooks = hooks


@contextmanager
def exclusive_run(cfg: Config) -> Iterator[None]:
    """Lock the work directory of a training run; all ranks call this after they are connected.

    Raises:
        UserError: The directory is not writable.
        LockedError: Another run trains in it.
    """
    folder = check_out_folder(cfg.work_dir)
    _tolerate_full_disk_of_logs()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"work_dir: '{folder}' cannot be made ({error.strerror})") from error
    with exclusive(folder, "training", remedy="wait for it, or name another folder with --work-dir"):
        yield


@contextmanager
def exclusive_test(cfg: Config, show_dir: str | Path | None) -> Iterator[None]:
    """Lock the work directory of a test and its folder of pictures; see :func:`exclusive_run`.

    A checkpoint can be tested while its run is training, which holds another lock.

    Raises:
        UserError: A folder is not writable.
        LockedError: Another test writes to it.
    """
    folders = {"--work-dir": (check_out_folder(cfg.work_dir), ".test.lock")}
    if show_dir is not None:
        folders["--show-dir"] = (check_out_folder(show_dir), PICTURES_LOCK)
    with ExitStack() as held:
        for option, (folder, name) in folders.items():
            remedy = f"wait for it, or name another folder with {option}"
            held.enter_context(exclusive(folder, "a test", name=name, remedy=remedy))
        yield


def set_resume(cfg: Config, resume: str | Path) -> str | None:
    """Set a config to resume from a checkpoint, or with ``auto`` from the newest in its work directory.

    Returns:
        Weights to start from if ``auto`` finds no checkpoint: ``load_from`` of the config.

    Raises:
        ConfigError: The checkpoint does not exist.
    """
    cfg.resume, otherwise = True, cfg.get("load_from")
    if resume == "auto":
        cfg.load_from = None
        return otherwise
    path = Path(resume).expanduser()
    if path.is_dir():
        raise ConfigError([f"--resume: '{path}' is a folder; name a checkpoint in it, or --work-dir {path}"], "train")
    if not path.is_file():
        raise ConfigError([f"--resume: no such checkpoint: '{path}'{near_file(path)}"], "train")
    cfg.load_from = str(path)
    return None


def run_training(runner: Runner, otherwise: str | None = None, override: bool = False) -> None:
    """Train; end with one line at a signal, a full disk or lost workers.

    Args:
        runner: The runner.
        otherwise: Weights to start from without a checkpoint to resume from.
        override: When resuming, take hyperparameters and schedules from the config.

    Raises:
        StoppedBySignal: A signal ended the run.
        FullDiskError: A checkpoint or result could not be written. A run continues without logs.
        ConfigError: ``override`` is set and the hook for it was removed.
    """
    checkpoint = next((hook for hook in runner.hooks if isinstance(hook, AtomicCheckpointHook)), None)
    if checkpoint is not None:
        checkpoint.choose(runner, otherwise)
    settings = [hook for hook in runner.hooks if isinstance(hook, ResumeSettingsHook)]
    if override and not settings:
        raise ConfigError(["--resume-override needs default_hooks.resume_settings"], str(runner.cfg.filename))
    for hook in settings:
        hook.override = hook.override or override
    signals = [hook for hook in runner.hooks if isinstance(hook, SaveOnSignalHook)]
    _tolerate_full_disk_of_curves(runner)
    try:
        with disk_full_errors(runner.work_dir, "make room and resume with the same command and --resume"):
            _train(runner, signals)
    except StoppedBySignal as stopped:
        leave_processes(int(str(stopped.code)))
        raise
    finally:
        for hook in signals:
            hook.close()


def _train(runner: Runner, signals: list[SaveOnSignalHook]) -> None:
    try:
        runner.train()
    except RuntimeError as error:
        if "DataLoader worker" in str(error):
            for hook in signals:
                hook.lost_workers(runner)
        raise


def _tolerate_full_disk_of_logs() -> None:
    """Let log files on a full disk cause one warning instead of an error, in this process."""

    def handle(handler: logging.FileHandler, error: BaseException) -> bool:
        if not is_disk_full(error):
            return False
        _warn_once(handler.baseFilename)
        return True

    handle_log_errors(handle)


def _tolerate_full_disk_of_curves(runner: Runner) -> None:
    """Do the same for the files of the visualizer."""
    add_scalars = runner.visualizer.add_scalars

    def guarded(*arguments: Any, **options: Any) -> None:
        try:
            with disk_full_errors(runner.log_dir):
                add_scalars(*arguments, **options)
        except FullDiskError:
            _warn_once(runner.log_dir)

    runner.visualizer.add_scalars = guarded


def _warn_once(path: str) -> None:
    folder = str(Path(path).parent if Path(path).suffix else path)
    if folder not in _WARNED:
        _WARNED.add(folder)
        print(f"warning: {path}: no space left on the disk; log lines and curves are lost", file=sys.stderr)
