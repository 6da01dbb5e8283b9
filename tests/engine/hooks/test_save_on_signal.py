"""A run that gets a signal saves first, and the resumed run equals an uninterrupted one."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner
from toy_runs import assert_same_run, checkpoints, saved, toy_runner

from proteus.engine import SaveOnSignalHook, StoppedBySignal


class Ask(Hook):
    """Sends signals to this process within an iteration or a validation."""

    def __init__(self, when: int, *numbers: int, within: str = "iteration") -> None:
        self.when, self.numbers, self.within = when, numbers, within

    def before_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if self.within == "iteration" and runner.iter + 1 == self.when:
            self.send()

    def after_val_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if self.within == "validation" and runner.iter == self.when:
            self.send()

    def send(self) -> None:
        for number in self.numbers:
            os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)], ids=lambda value: value
)
def test_the_iteration_is_finished_and_saved(
    tmp_path: Path, number: int, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGCHLD)
    toy_runner(tmp_path / "whole").train()
    with pytest.raises(StoppedBySignal) as stopped:
        toy_runner(tmp_path / "run", [Ask(3, number)]).train()
    assert stopped.value.code == status
    name = signal.Signals(number).name
    line = f"stopped by {name} after iteration 3; saved {tmp_path / 'run/iter_3.pth'}; resume with the same command and"
    assert line in "".join(capfd.readouterr())
    toy_runner(tmp_path / "run", resume=True).train()
    assert_same_run(tmp_path / "run/iter_6.pth", tmp_path / "whole/iter_6.pth")
    after = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGCHLD)
    assert after == before


VALIDATED: dict[str, Any] = {
    "train_cfg__val_interval": 2,
    "default_hooks__checkpoint__save_best": "toy/error",
    "default_hooks__checkpoint__rule": "less",
    "custom_hooks": [{"type": "EMAHook", "momentum": 0.5}],
}


@pytest.mark.parametrize("within", ["iteration", "validation"])
def test_a_validation_that_was_due_or_under_way_is_made_up_for(tmp_path: Path, within: str) -> None:
    """With an average of the weights, which takes their place while a validation lasts."""
    toy_runner(tmp_path / "whole", **VALIDATED).train()
    with pytest.raises(StoppedBySignal):
        toy_runner(tmp_path / "run", [Ask(4, signal.SIGTERM, within=within)], **VALIDATED).train()
    assert saved(tmp_path / "run/iter_4.pth")["validation_due"]
    toy_runner(tmp_path / "run", resume=True, **VALIDATED).train()
    assert_same_run(tmp_path / "run/iter_6.pth", tmp_path / "whole/iter_6.pth")
    ours, theirs = (
        saved(tmp_path / name / "iter_6.pth")["message_hub"]["log_scalars"]["val/toy/error"].data[0].tolist()
        for name in ("run", "whole")
    )
    assert ours == theirs
    assert len(ours) == 2  # that of iteration 6 comes after the checkpoint
    assert {name for name in checkpoints(tmp_path / "run") if "best" in name} == {
        name for name in checkpoints(tmp_path / "whole") if "best" in name
    }


def test_two_at_once_are_one(tmp_path: Path) -> None:
    """torchrun hands on to its processes what they have already got from the terminal."""
    with pytest.raises(StoppedBySignal):
        toy_runner(tmp_path, [Ask(3, signal.SIGINT, signal.SIGINT, signal.SIGTERM)]).train()
    assert "iter_3.pth" in checkpoints(tmp_path)


def test_the_second_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hook, times, sent = SaveOnSignalHook(), iter([10.0, 10.1, 11.0]), []
    hook._process = os.getpid()
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(os, "kill", lambda _, number: sent.append(number))
    for count in (0, 0, 1):
        hook._receive(signal.SIGTERM, None)
        assert len(sent) == count


def test_a_forked_worker_leaves_it_to_the_run() -> None:
    hook = SaveOnSignalHook()
    hook._process = os.getppid()
    hook._receive(signal.SIGINT, None)
    assert hook.received == 0


@pytest.mark.parametrize("keys", [{"signals": ["SIGNONE"]}, {"signals": "SIGTERM"}, {"patience": 0}])
def test_wrong_arguments_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"SaveOnSignalHook\.{next(iter(keys))}="):
        SaveOnSignalHook(**keys)
