"""Locks, resuming, signals and full disks around a run that the API trains."""

from __future__ import annotations

import copy
import errno
import logging
import os
import signal
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from runs import talk_to
from toy_runs import checkpoints, saved, toy_config, toy_runner

from proteus.apis import ConfigError, run_state, train
from proteus.apis import test as run_test
from proteus.apis.run_state import add_run_hooks, exclusive_run, run_training, set_resume
from proteus.cli.run import run
from proteus.engine import AtomicCheckpointHook, StoppedBySignal
from proteus.engine.runner import prepare_processes
from proteus.registry import HOOKS
from proteus.structures import LockedError, UserError
from proteus.utils import exclusive


@pytest.fixture
def cfg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The toy run, without the checks for distillation."""
    for name in ("check_batch", "check_sizes", "check_dense", "check_files"):
        monkeypatch.setattr(sys.modules["proteus.apis.training"], name, lambda *_: None)
    found = toy_config(tmp_path / "run")
    found.experiment_name = tmp_path.name
    return found


def test_a_second_run_is_refused_and_writes_nothing(cfg: Config, tmp_path: Path) -> None:
    code = (
        "import sys, time; from proteus.utils import exclusive\n"
        "with exclusive(sys.argv[1], 'training'):\n    print('held', flush=True); time.sleep(60)"
    )
    with talk_to(code, tmp_path / "run") as (first, output):
        assert output.readline() == "held\n"
        words = rf"in use by training, process {first.pid} on .*; wait for it, or name another folder with --work-dir"
        with pytest.raises(LockedError, match=words):
            train(cfg)
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
        cfg.work_dir = str(tmp_path / "other")
        train(cfg)
        first.kill()
    cfg.work_dir = str(tmp_path / "run")
    train(cfg)


@pytest.mark.parametrize("option", ["--work-dir", "--show-dir"])
def test_a_second_test_is_refused_and_writes_nothing(cfg: Config, tmp_path: Path, option: str) -> None:
    checkpoint, shown = _trained(cfg), tmp_path / "shown"
    before = sorted(path for path in tmp_path.rglob("*") if ".lock" not in path.name)
    folder, name = (tmp_path / "run", ".test.lock") if option == "--work-dir" else (shown, ".pictures.lock")
    words = rf"'?{folder}'?: in use by a test, process .*; wait for it, or name another folder with {option}"
    with exclusive(folder, "a test", name=name):
        before = sorted({*before, folder})
        with pytest.raises(LockedError, match=words):
            run_test(cfg, checkpoint, show_dir=shown)
        assert sorted(path for path in tmp_path.rglob("*") if ".lock" not in path.name) == before
    assert run_test(cfg, checkpoint, show_dir=shown)["toy/error"] > 0


def test_a_checkpoint_is_tested_during_its_run(cfg: Config, tmp_path: Path) -> None:
    checkpoint = _trained(cfg)
    with exclusive(tmp_path / "run", "training"):
        assert run_test(cfg, checkpoint, show_dir=tmp_path / "run")["toy/error"] > 0


def _trained(cfg: Config) -> Path:
    """Train, and make the config ready for a test with pictures."""
    train(copy.deepcopy(cfg))
    cfg.test_dataloader, cfg.test_evaluator, cfg.test_cfg = cfg.val_dataloader, cfg.val_evaluator, {"type": "TestLoop"}
    cfg.default_hooks.visualization = {"type": "ToyPictures"}
    cfg.experiment_name += "-tested"
    return Path(cfg.work_dir) / "iter_6.pth"


@HOOKS.register_module()
class ToyPictures(Hook):
    """Draws nothing."""

    def __init__(self, draw: bool, out_dir: str) -> None:
        self.out_dir = out_dir


def test_the_lock_is_free_after_an_error(cfg: Config, tmp_path: Path) -> None:
    cfg.train_cfg.max_iters = 0
    with pytest.raises(UserError, match=r"train_cfg\.max_iters=0"):
        train(cfg)
    with exclusive(tmp_path / "run", "training"):
        pass


@pytest.mark.parametrize("kind", ["file", "below a file"])
def test_a_work_dir_that_is_a_file(cfg: Config, tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    cfg.work_dir = str(tmp_path / "file" / ("" if kind == "file" else "run"))
    with pytest.raises(UserError, match="is a file; name a folder"), exclusive_run(cfg):
        pass


def test_resuming_with_and_without_a_checkpoint(cfg: Config, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without a checkpoint, the run starts from the weights of the config."""
    torch.save(
        {"state_dict": {"line.weight": torch.full((1, 1), 9.0), "line.bias": torch.zeros(1)}}, tmp_path / "w.pth"
    )
    first = copy.deepcopy(cfg)
    first.load_from = str(tmp_path / "w.pth")
    runner = train(first, resume="auto")
    output = "".join(capfd.readouterr())
    assert f"no checkpoint in {tmp_path / 'run'}: starting from iteration 0, with the weights of" in output
    assert runner.model.line.weight.item() > 8
    longer = copy.deepcopy(cfg)
    longer.train_cfg.max_iters = 8
    train(longer, resume="auto")
    assert f"resuming from {tmp_path / 'run/iter_6.pth'}" in "".join(capfd.readouterr())
    other = copy.deepcopy(cfg)
    other.work_dir = str(tmp_path / "other")
    assert train(other, resume=tmp_path / "run/iter_4.pth").iter == 6
    assert checkpoints(tmp_path / "other") == {"iter_6.pth"}


@pytest.mark.parametrize(
    ("name", "words"),
    [("iter_3.pth", r"--resume: no such checkpoint: '.*iter_3\.pth'"), (".", "is a folder; name a checkpoint in it")],
)
def test_a_checkpoint_that_does_not_exist(cfg: Config, tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        set_resume(cfg, tmp_path / name)


def test_overriding_needs_its_hook(tmp_path: Path) -> None:
    runner = toy_runner(tmp_path)
    runner._hooks = [hook for hook in runner.hooks if "ResumeSettings" not in type(hook).__name__]
    with pytest.raises(ConfigError, match=r"--resume-override needs default_hooks\.resume_settings"):
        run_training(runner, override=True)


@HOOKS.register_module()
class Interrupt(Hook):
    """Ctrl-C at the third iteration."""

    def before_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if runner.iter == 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_is_one_line_and_status_130(cfg: Config, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cfg.custom_hooks = [{"type": "Interrupt"}]
    with pytest.raises(SystemExit) as stopped:
        run(lambda _: train(cfg) and 0, Namespace())
    assert stopped.value.code == 130
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert "stopped by SIGINT after iteration 3; saved" in out + err
    assert saved(tmp_path / "run/iter_3.pth")["meta"]["iter"] == 3
    with exclusive(tmp_path / "run", "training"):
        pass


def test_workers_that_the_signal_ended_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm sends SIGTERM to all processes of a job."""
    runner = toy_runner(tmp_path)

    def lose(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("DataLoader worker (pid(s) 1, 2) exited unexpectedly")

    original = Runner.train

    def train_some(self: Runner) -> None:
        class Lose(Hook):
            def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
                if runner.iter == 2:
                    monkeypatch.setattr(type(runner.train_loop.dataloader_iterator), "__next__", lose)

        self.register_hook(Lose())
        original(self)

    monkeypatch.setattr(Runner, "train", train_some)
    with pytest.raises(StoppedBySignal) as stopped:
        run_training(runner)
    assert stopped.value.code == 143
    assert saved(tmp_path / "iter_3.pth")["meta"]["iter"] == 3


def test_a_full_disk_loses_log_lines_but_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    runner = toy_runner(tmp_path, default_hooks__logger__interval=1)
    handler = next(each for each in runner.logger.handlers if isinstance(each, logging.FileHandler))

    class Fill(Hook):
        def before_train_epoch(self, runner: Runner) -> None:
            handler.setStream(open("/dev/full", "w"))  # noqa: SIM115

    runner.register_hook(Fill())

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(runner.visualizer), "add_scalars", full)
    monkeypatch.setattr(logging.FileHandler, "handleError", logging.FileHandler.handleError)
    run_state._tolerate_full_disk_of_logs()
    run_training(runner)
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert (out + err).count("no space left on the disk") == 1
    assert "iter_6.pth" in checkpoints(tmp_path)


@pytest.mark.parametrize("launcher", ["pytorch", "slurm", "mpi"])
def test_a_launcher_that_did_not_start_this_process(cfg: Config, launcher: str) -> None:
    cfg.launcher = launcher
    with pytest.raises(UserError, match=rf"--launcher {launcher}: \w+ is not set; start the processes with"):
        prepare_processes(cfg)


@pytest.mark.parametrize("values", [{"RANK": "x"}, {"RANK": "3"}, {"MASTER_PORT": "port"}])
def test_impossible_environment_variables(cfg: Config, values: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for name, value in {**good, **values}.items():
        monkeypatch.setenv(name, value)
    cfg.launcher = "pytorch"
    with pytest.raises(UserError, match="--launcher pytorch: the processes cannot be connected: "):
        prepare_processes(cfg)


def test_a_config_of_another_toolbox_gets_our_hooks() -> None:
    cfg = Config({"default_hooks": {"checkpoint": {"type": "CheckpointHook", "interval": 3}, "stop_on_nan": None}})
    add_run_hooks(cfg)
    assert cfg.default_hooks.checkpoint == {"type": "proteus.AtomicCheckpointHook", "interval": 3}
    assert cfg.default_hooks.stop_on_nan is None
    assert cfg.default_hooks.save_on_signal.type == "proteus.SaveOnSignalHook"
    own = Config({"default_hooks": {"checkpoint": {"type": "mine.Hook"}}, "custom_hooks": [{"type": "StopOnNaNHook"}]})
    add_run_hooks(own)
    assert own.default_hooks.checkpoint.type == "mine.Hook"
    assert "stop_on_nan" not in own.default_hooks
    empty = Config({})
    add_run_hooks(empty)
    assert isinstance(HOOKS.build(empty.default_hooks.checkpoint), AtomicCheckpointHook)
