"""Loggers by name, with the real packages where they are installed, and ``metrics.jsonl``."""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import count
from pathlib import Path

import pytest
from mmengine.config import Config
from toy_runs import toy_config

from proteus.apis.loggers import logger_backends, prepare_loggers, use_loggers
from proteus.apis.run_state import add_run_hooks, run_training
from proteus.apis.training import build_runner
from proteus.evaluation.online.jsonl_log import read_jsonl
from proteus.structures import UserError

RUNS = count()


def trained(folder: Path, loggers: list[str], **keys: object) -> list[dict[str, object]]:
    """Lines of ``metrics.jsonl`` after a toy run."""
    logger = {"type": "LoggerHook", "interval": 1, "log_metric_by_epoch": False}
    changes = {"max_iters": 4, "train_cfg__val_interval": 2, "default_hooks__logger": logger, **keys}
    cfg = toy_config(folder, **changes)
    cfg.experiment_name = f"run-{next(RUNS)}"  # runs of one name share a visualizer
    use_loggers(cfg, loggers)
    add_run_hooks(cfg)
    run_training(build_runner(cfg))
    return read_jsonl(folder / "metrics.jsonl")


def test_metrics_has_a_line_per_log_line_and_validation(tmp_path: Path) -> None:
    lines = trained(tmp_path, ["none"], log_processor__log_with_hierarchy=False)
    assert [(line["iteration"], line["mode"]) for line in lines] == [
        (1, "train"),
        (2, "train"),
        (2, "val"),
        (3, "train"),
        (4, "train"),
        (4, "val"),
    ]
    assert {"loss", "loss_line", "lr", "time"} <= set(lines[0])
    assert "toy/error" in lines[2]
    (scalars,) = tmp_path.glob("*/vis_data/scalars.json")
    assert json.loads(scalars.read_text().splitlines()[0])["loss"] == lines[0]["loss"]
    resumed = trained(tmp_path, ["none"], resume=True, load_from=str(tmp_path / "iter_2.pth"))
    assert resumed[:3] == lines[:3]
    assert [line["iteration"] for line in resumed] == [1, 2, 2, 3, 4, 4]
    assert resumed[3]["loss"] == lines[3]["loss"]


def test_tensorboard_gets_the_curves_and_names_replace_the_loggers_of_the_config(tmp_path: Path) -> None:
    cfg = Config(
        {"work_dir": str(tmp_path), "visualizer": {"type": "V", "vis_backends": [{"type": "WandbVisBackend"}]}}
    )
    use_loggers(cfg, ["tensorboard", "tensorboard"])
    assert [each["type"] for each in cfg.visualizer.vis_backends] == ["LocalVisBackend", "TensorboardVisBackend"]
    assert cfg.visualizer.type == "V"
    trained(tmp_path, ["tensorboard"])
    assert list(tmp_path.glob("*/vis_data/events.out.tfevents.*"))


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_telemetry_is_off_unless_the_user_asks_for_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable, off = {"wandb": ("WANDB_ERROR_REPORTING", "false"), "mlflow": ("MLFLOW_DISABLE_TELEMETRY", "true")}[name]
    cfg = Config({"work_dir": str(tmp_path)})
    use_loggers(cfg, [name])
    monkeypatch.setattr("os.environ", {})
    prepare_loggers(cfg)
    assert os.environ[variable] == off
    monkeypatch.setattr("os.environ", {variable: "own"})
    prepare_loggers(cfg)
    assert os.environ[variable] == "own"


@pytest.mark.slow
def test_wandb_gets_the_curves_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("exit", "excepthook"):  # W&B replaces both for the rest of the process
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    trained(tmp_path / "my_run", ["wandb"])
    import wandb  # slow, and reads its variables, which the run has set

    wandb.finish()  # as at the end of a process; W&B's own process then writes the file
    (file,) = (tmp_path / "my_run/wandb").glob("offline-run-*/run-*.wandb")
    # Records of a protocol buffer: a name with its length, and a value. No code is among them, so one block of the file
    # holds them undivided.
    words = (b"my_run", b"\tloss_line\x82\x01", b"\ttoy/error\x82\x01")
    deadline = time.monotonic() + 60
    while not all(word in file.read_bytes() for word in words):
        assert time.monotonic() < deadline, file.read_bytes()
        time.sleep(0.05)
    assert file.stat().st_size < 32_768


@pytest.mark.slow
def test_mlflow_gets_the_curves_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # restored, which MLflow does not do
    lines = trained(tmp_path / "my_run", ["mlflow"])
    import mlflow  # slow, and reads its variables, which the run has set

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = mlflow.MlflowClient((tmp_path / "my_run/mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("proteus").experiment_id])
    assert (run.info.run_name, run.info.status) == ("my_run", "FINISHED")
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(each.step, each.value) for each in history] == [
        (line["iteration"], line["loss"]) for line in lines if line["mode"] == "train"
    ]
    assert [each.step for each in client.get_metric_history(run.info.run_id, "toy/error")] == [2, 4]
    assert run.data.params["model.type"] == "ToyModel"
    # MLflow has exported the folder of this run, which the next one in the process does not take for the user's server.
    assert logger_backends(["mlflow"], tmp_path / "next")[0]["tracking_uri"] == (tmp_path / "next/mlruns").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert logger_backends(["mlflow"], tmp_path / "next")[0]["tracking_uri"] == "http://tracking:5000"


def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^--logger comet: choose from: tensorboard, wandb, mlflow, or none alone$"):
        logger_backends(["tensorboard", "comet"], tmp_path)
    with pytest.raises(UserError, match="--logger none: choose from"):
        logger_backends(["wandb", "none"][::-1], tmp_path)
    monkeypatch.setattr("proteus.apis.loggers.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^--logger wandb: the package is not installed; run pip install wandb$"):
        logger_backends(["wandb"], tmp_path)
    cfg = Config({"visualizer": {"type": "Visualizer", "vis_backends": [{"type": "mmengine.MLflowVisBackend"}]}})
    with pytest.raises(UserError, match=r"^visualizer.vis_backends: MLflowVisBackend: the package is not installed"):
        prepare_loggers(cfg)
