"""Bounded log histories: checkpoints do not grow, and log lines are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner
from toy_runs import saved, toy_runner

from proteus.engine.runner.histories import bound_histories

LONG: dict[str, Any] = {
    "max_iters": 450,
    "default_hooks__checkpoint__interval": 150,
    "default_hooks__logger__interval": 75,
}


class Lines(Hook):
    """Record what the logger sends to the visualizer."""

    priority = "LOWEST"

    def before_train(self, runner: Runner) -> None:
        self.lines: list[Any] = []
        timing = ("time", "data_time")
        runner.visualizer.add_scalars = lambda values, step, **_: self.lines.append(
            (step, {name: value for name, value in values.items() if name not in timing})
        )


@pytest.mark.parametrize("hook", ["RuntimeInfoHook", "AsyncRuntimeInfoHook"])
def test_checkpoints_do_not_grow(tmp_path: Path, hook: str) -> None:
    toy_runner(tmp_path, default_hooks__runtime_info={"type": hook}, **LONG).train()
    sizes = [(tmp_path / f"iter_{step}.pth").stat().st_size for step in (150, 300, 450)]
    assert max(sizes) - min(sizes) < 200
    scalars = saved(tmp_path / "iter_450.pth")["message_hub"]["log_scalars"]
    assert {len(buffer.data[0]) for buffer in scalars.values()} == {100}


@pytest.mark.parametrize("window", [3, 50, 140])
def test_lines_equal_those_of_unbounded_histories(tmp_path: Path, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bounded, unbounded, resumed = Lines(), Lines(), Lines()
    toy_runner(tmp_path / "bounded", [bounded], log_processor__window_size=window, **LONG).train()
    (tmp_path / "bounded/last_checkpoint").unlink()
    (tmp_path / "bounded/iter_450.pth").unlink()
    toy_runner(tmp_path / "bounded", [resumed], resume=True, log_processor__window_size=window, **LONG).train()
    monkeypatch.setattr("proteus.engine.hooks.checkpoint.bound_histories", lambda _: None)
    toy_runner(tmp_path / "unbounded", [unbounded], log_processor__window_size=window, **LONG).train()
    assert bounded.lines == unbounded.lines
    assert resumed.lines == [line for line in unbounded.lines if line[0] > 300 or line[0] == 0]  # 0: the validation


def test_global_windows_keep_all_values(tmp_path: Path) -> None:
    everything = [{"data_src": "loss", "method_name": "mean", "window_size": "global"}]
    runner = toy_runner(tmp_path, log_processor__custom_cfg=everything, **LONG)
    runner.train()
    bound_histories(runner)
    assert len(runner.message_hub.get_scalar("train/loss").data[0]) == 450
