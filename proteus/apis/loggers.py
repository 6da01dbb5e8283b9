"""Send the curves of a run to TensorBoard, Weights & Biases or MLflow."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config

from proteus.structures import UserError

PROJECT = "proteus"
_LOCAL = "LocalVisBackend"
_PACKAGES = {"TensorboardVisBackend": "tensorboard", "WandbVisBackend": "wandb", "MLflowVisBackend": "mlflow"}
# Read by these packages when they are imported. Both report on their use by default, and MLflow 3 writes to a folder
# only with consent.
_VARIABLES = {
    "WandbVisBackend": {"WANDB_ERROR_REPORTING": "false"},
    "MLflowVisBackend": {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_FILE_STORE": "true"},
}
_SERVER = "MLFLOW_TRACKING_URI"
# What MLflow itself sets the variable to at each run, and the user has not.
_SET_BY_MLFLOW: set[str] = set()


def use_loggers(cfg: Config, names: Sequence[str]) -> None:
    """Choose where a run sends its curves and its config, in addition to the files in its work directory.

    The loggers replace those of the config.

    Args:
        cfg: Config of the run with its ``work_dir``, changed in place.
        names: Names for :func:`logger_backends`.

    Raises:
        UserError: A name is unknown, or its package is not installed.
    """
    visualizer = cfg.get("visualizer") or {"type": "Visualizer"}
    local = [each for each in visualizer.get("vis_backends") or [] if _name(each) == _LOCAL]
    visualizer["vis_backends"] = [*(local or [{"type": _LOCAL}]), *logger_backends(names, cfg.work_dir)]
    cfg.visualizer = visualizer


def logger_backends(names: Sequence[str], work_dir: str | Path) -> list[dict[str, Any]]:
    """Return MMEngine's visualization backends of loggers, for ``visualizer.vis_backends``.

    Runs are grouped as the project or experiment ``proteus``, and named by their work directory (by its parent for the
    ``run`` of a model folder). Weights & Biases works without an account if ``WANDB_MODE=offline`` is set. MLflow
    writes to ``mlruns`` in the work directory unless ``MLFLOW_TRACKING_URI`` names a server.

    Args:
        names: Some of ``tensorboard``, ``wandb``, ``mlflow``; or ``none`` alone.
        work_dir: Work directory of the run.

    Raises:
        UserError: A name is unknown, or its package is not installed.
    """
    chosen = [] if list(names) == ["none"] else list(dict.fromkeys(names))
    for name in chosen:
        if name not in _LOGGERS:
            raise UserError(f"--logger {name}: choose from: {', '.join(_LOGGERS)}, or none alone")
        _check_installed(name, f"--logger {name}")
    return [_LOGGERS[name](Path(work_dir)) for name in chosen]


def prepare_loggers(cfg: Config) -> None:
    """Check the packages of the loggers of a config before anything is built, and switch their telemetry off.

    Variables that the user has set stay.

    Raises:
        UserError: A package is not installed.
    """
    for backend in (cfg.get("visualizer") or {}).get("vis_backends") or []:
        name = _name(backend)
        if name in _PACKAGES:
            _check_installed(_PACKAGES[name], f"visualizer.vis_backends: {name}")
        if name == "MLflowVisBackend" and backend.get("tracking_uri") not in (None, os.environ.get(_SERVER)):
            _SET_BY_MLFLOW.add(backend["tracking_uri"])
        for variable, value in _VARIABLES.get(name, {}).items():
            os.environ.setdefault(variable, value)


def _name(backend: Any) -> str:
    return str(backend.get("type")).rpartition(".")[2]


def _check_installed(package: str, where: str) -> None:
    if find_spec(package) is None:
        raise UserError(f"{where}: the package is not installed; run pip install {package}")


def _run_name(work_dir: Path) -> str:
    folder = work_dir.absolute()
    return folder.parent.name if folder.name == "run" else folder.name


def _tensorboard(work_dir: Path) -> dict[str, Any]:
    return {"type": "TensorboardVisBackend"}


def _wandb(work_dir: Path) -> dict[str, Any]:
    # Curves over iterations; by default over log lines.
    metrics = [{"name": "*", "step_metric": "iter"}]
    return {
        "type": "WandbVisBackend",
        "init_kwargs": {"project": PROJECT, "name": _run_name(work_dir), "dir": str(work_dir)},
        "define_metric_cfg": metrics,
    }


def _mlflow(work_dir: Path) -> dict[str, Any]:
    folder, server = (work_dir / "mlruns").absolute(), os.environ.get(_SERVER)
    return {
        "type": "MLflowVisBackend",
        "exp_name": PROJECT,
        "run_name": _run_name(work_dir),
        "tracking_uri": server if server and server not in _SET_BY_MLFLOW else folder.as_uri(),
        # By default it would upload every log and config file of the work directory, its own store included.
        "artifact_suffix": (),
    }


_LOGGERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
