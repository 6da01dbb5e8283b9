"""A run that diverges stops and keeps its last good checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from toy_runs import checkpoints, toy_runner

from proteus.engine import DivergedError, StopOnNaNHook
from proteus.engine.hooks import stop_on_nan


def described(folder: Path, iteration: int) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / f"nan_iter_{iteration}.pth", weights_only=True)
    return found


# The fourth batch holds the bad point.
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_run_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's losses are read at intervals; a checkpoint that is due in between is not written."""
    monkeypatch.setattr(stop_on_nan, "_device", lambda _: torch.device(device))
    runner = toy_runner(tmp_path, bad=13, max_iters=20, default_hooks__checkpoint__max_keep_ckpts=1)
    with pytest.raises(DivergedError, match=r"loss = nan, loss_line = nan at iteration 4; the last good checkpoint is"):
        runner.train()
    assert runner.iter == 3  # The fourth iteration is not counted: it stopped within.
    assert checkpoints(tmp_path) == {"iter_2.pth", "nan_iter_4.pth"}
    found = described(tmp_path, 4)
    assert found["batch"]["name"] == ["12.jpg", "13.jpg", "14.jpg", "15.jpg"]
    assert found["batch"]["x"].isnan().tolist() == [[False], [True], [False], [False]]
    assert found["resume_from"] == str(tmp_path / "iter_2.pth")
    assert (found["iteration"], found["seed"]) == (4, 0)
    assert math.isnan(found["terms"]["loss"])
    assert set(found["losses"]) == {"loss", "loss_line"}


def test_an_earlier_iteration_than_the_one_it_is_read_at_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop_on_nan, "_device", lambda _: torch.device("cuda"))
    hook = {"default_hooks__stop_on_nan": {"type": "StopOnNaNHook", "interval": 5}}
    runner = toy_runner(tmp_path, bad=25, max_iters=50, default_hooks__checkpoint__interval=100, **hook)
    with pytest.raises(
        DivergedError, match=r"at iteration 7; no checkpoint had been saved; the batch is in .*iter_7\.pth"
    ):
        runner.train()
    assert runner.iter == 9
    assert described(tmp_path, 7)["batch"]["name"][1] == "25.jpg"


def test_batches_beyond_the_limit_keep_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_on_nan, "_device", lambda _: torch.device("cuda"))
    hook = {"default_hooks__stop_on_nan": {"type": "StopOnNaNHook", "interval": 5, "keep_mb": 0}}
    with pytest.raises(DivergedError):
        toy_runner(tmp_path, bad=25, max_iters=50, default_hooks__checkpoint__interval=100, **hook).train()
    assert described(tmp_path, 7)["batch"] == {"x": None, "name": ["24.jpg", "25.jpg", "26.jpg", "27.jpg"]}


class Spoil(Hook):
    """Puts NaN into a tensor of the model after an iteration, as an update would."""

    priority = "VERY_LOW"

    def __init__(self, iteration: int, place: Callable[[Any], torch.Tensor]) -> None:
        self.iteration, self.place = iteration, place

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if runner.iter + 1 == self.iteration:
            self.place(runner.model).data.fill_(math.nan)


def test_weights_are_read_before_a_checkpoint(tmp_path: Path) -> None:
    """The losses of the iteration were still finite."""
    spoil = Spoil(4, lambda model: model.line.weight)
    spoil.priority = "NORMAL"
    with pytest.raises(
        DivergedError, match=r"line\.weight holds NaN or infinity after iteration 4; the last good .*_2"
    ):
        toy_runner(tmp_path, [spoil]).train()
    assert checkpoints(tmp_path) == {"iter_2.pth"}


def test_weights_of_the_last_iteration_are_read_before_the_end(tmp_path: Path) -> None:
    class Export(Hook):
        def after_train(self, runner: Runner) -> None:
            (tmp_path / "student").touch()

    hooks = [Spoil(6, lambda model: model.line.bias), Export()]
    with pytest.raises(DivergedError, match=r"line\.bias holds NaN"):
        toy_runner(tmp_path, hooks, default_hooks__checkpoint=None).train()
    assert not (tmp_path / "student").exists()


def test_buffers_and_averages(tmp_path: Path) -> None:
    runner = toy_runner(tmp_path, custom_hooks=[{"type": "EMAHook"}])
    runner.model.register_buffer("mask", torch.full((2,), -math.inf))
    runner.model.register_parameter("frozen", nn.Parameter(torch.tensor(math.nan), requires_grad=False))
    assert stop_on_nan._first_bad_weight(runner_with_average(runner)) is None
    ema = next(hook for hook in runner.hooks if hasattr(hook, "ema_model"))
    ema.ema_model.module.line.bias.data.fill_(math.inf)
    assert stop_on_nan._first_bad_weight(runner) == "average of line.bias"
    runner.model.mask.fill_(math.nan)
    ema.ema_model.module.line.bias.data.zero_()
    assert stop_on_nan._first_bad_weight(runner) == "mask"


def runner_with_average(runner: Runner) -> Runner:
    next(hook for hook in runner.hooks if type(hook).__name__ == "EMAHook").before_run(runner)
    return runner


def step(hook: StopOnNaNHook, runner: Any, **losses: Any) -> None:
    hook.after_train_iter(runner, runner.iter, {"name": ["0.jpg"]}, losses)


@pytest.mark.parametrize("scaler", [False, True])
def test_gradient_norms(tmp_path: Path, scaler: bool) -> None:
    """With a gradient scaler infinite gradients are skipped, not applied."""
    runner = toy_runner(tmp_path, optim_wrapper__clip_grad={"max_norm": 1.0})
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    if scaler:
        runner.optim_wrapper.loss_scaler = object()
    runner.message_hub.update_scalar("train/grad_norm", math.inf)
    hook = StopOnNaNHook()
    if scaler:
        step(hook, runner, loss=torch.tensor(1.0))
        with pytest.raises(DivergedError, match="loss = nan"):
            step(hook, runner, loss=torch.tensor(math.nan))
    else:
        with pytest.raises(DivergedError, match="grad_norm = inf at iteration 1"):
            step(hook, runner, loss=torch.tensor(1.0))


def test_other_values_than_losses_may_be_nan(tmp_path: Path) -> None:
    runner = toy_runner(tmp_path)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    hook = StopOnNaNHook()
    step(hook, runner, loss=torch.tensor(1.0), acc_seg=torch.tensor(math.nan))
    with pytest.raises(DivergedError, match=r"decode\.loss_ce = inf"):
        step(hook, runner, loss=1.0, **{"decode.loss_ce": math.inf})


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "10", None])
def test_intervals_that_mean_nothing_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"StopOnNaNHook\.interval=.*: write a whole number above 0"):
        StopOnNaNHook(interval=value)


def test_a_frozen_teacher_with_nan_is_found_at_the_first_iteration(
    make_runner: Callable[..., Runner], multi_student: dict[str, Any]
) -> None:
    runner = make_runner(model=multi_student, default_hooks__online_eval=None)
    next(runner.model.teacher.parameters()).data.fill_(math.nan)
    with pytest.raises(DivergedError, match=r"loss = nan, tiny\.loss_.* = nan at iteration 1; no checkpoint had"):
        runner.train()
    found = described(Path(runner.work_dir), 1)
    assert found["batch"]["inputs"].shape == (8, 3, 56, 56)
    assert {"loss", "tiny.loss_patch", "small.loss_patch"} <= found["terms"].keys()
    assert not list(Path(runner.work_dir).glob("*.safetensors"))
