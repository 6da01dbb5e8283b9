"""Checkpoints that lack a part of the state of a run, or have that of another run: one line that names the file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from toy_runs import saved, toy_config

from proteus.apis import train
from proteus.checkpoints import CheckpointError

State = dict[str, Any]


def without(*keys: str) -> Callable[[State], State]:
    return lambda state: {key: value for key, value in state.items() if key not in keys}


def with_(**parts: Any) -> Callable[[State], State]:
    return lambda state: {**state, **parts}


def with_meta(**parts: Any) -> Callable[[State], State]:
    return lambda state: {**state, "meta": {**state["meta"], **parts}}


STATES: dict[str, tuple[Callable[[State], State], str]] = {
    "weights alone": (
        lambda state: state["state_dict"],
        "holds weights without meta, message_hub, optimizer, param_sch",
    ),
    "a state dict alone": (lambda state: {"state_dict": state["state_dict"]}, "holds weights without meta"),
    "the best checkpoint": (without("optimizer", "param_schedulers"), "weights without optimizer, param_schedulers"),
    "no optimizer": (without("optimizer"), r"weights without optimizer\. .*best_\*\.pth have weights alone"),
    "no schedules": (without("param_schedulers"), "weights without param_schedulers"),
    "no message hub": (without("message_hub"), "weights without message_hub"),
    "an optimizer that is empty": (with_(optimizer={}), "KeyError: param_groups"),
    "an optimizer of other groups": (
        with_(optimizer={"state": {}, "param_groups": [{"params": [0]}, {"params": [1]}]}),
        "ValueError: loaded state dict has a different number of parameter groups",
    ),
    "fewer schedules": (with_(param_schedulers=[]), "the state of 0 schedules, and param_scheduler has 1"),
    "more schedules": (with_(param_schedulers=[{"last_step": 1}] * 2), "the state of 2 schedules"),
    "schedules that are numbers": (with_(param_schedulers=[5]), "the state of 1 schedules"),
    "a hub of something else": (with_(message_hub={"x": 1}), "AssertionError: .*log_scalars"),
    "a hub that is damaged": (with_(message_hub={"log_scalars": 5}), "cannot be resumed from"),
    "an iteration that is text": (with_meta(iter="5"), "meta.iter is '5'"),
    "a seed that is text": (with_meta(seed="x"), "TypeError"),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        train(toy_run(folder, patch))
    return folder / "iter_4.pth"


def toy_run(folder: Path, patch: pytest.MonkeyPatch) -> Config:
    """The toy run, without the checks of a distillation and without StrictCheckpointHook."""
    for name in ("check_batch", "check_sizes", "check_dense", "check_files"):
        patch.setattr(sys.modules["proteus.apis.training"], name, lambda *_: None)
    config = toy_config(folder)
    config.experiment_name = f"{folder.parent.name}-{folder.name}"
    return config


@pytest.mark.parametrize("case", STATES)
def test_a_state_that_is_not_this_runs_is_refused(
    case: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, words = STATES[case]
    path = tmp_path / "odd.pth"
    torch.save(change(saved(checkpoint)), path)
    with pytest.raises(CheckpointError, match=words) as caught:
        train(toy_run(tmp_path / "run", monkeypatch), path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_of_something_else_are_passed_over(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, settings in enumerate(("[1]", "5", 5, "{")):
        path = tmp_path / f"{number}.pth"
        torch.save(with_meta(settings=settings)(saved(checkpoint)), path)
        assert train(toy_run(tmp_path / f"run{number}", monkeypatch), path).iter == 6


def test_other_schedules_are_taken_from_the_config_when_asked(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_run(tmp_path / "run", monkeypatch)
    config.param_scheduler = [*config.param_scheduler, {"type": "ConstantLR", "by_epoch": False, "begin": 5, "end": 6}]
    with pytest.raises(CheckpointError, match=r"has the state of 1 schedules, and param_scheduler has 2"):
        train(config, checkpoint)
    config.experiment_name += "-again"
    assert train(config, checkpoint, override=True).iter == 6
