"""AsyncRuntimeInfoHook against MMEngine's RuntimeInfoHook: the same log, hub and checkpoints."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook, LoggerHook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner

from proteus.engine.hooks.async_runtime_info import AsyncRuntimeInfoHook, is_logging_due

Make = Callable[..., Runner]
ASYNC, EAGER = ({"type": name} for name in ("AsyncRuntimeInfoHook", "RuntimeInfoHook"))
TIMINGS = ("time", "data_time", "images_per_s", "data_wait", "memory")


class Logged(Hook):
    """Record what the logger sends to the visualizer."""

    priority = "LOWEST"

    def before_train(self, runner: Runner) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []
        runner.visualizer.add_scalars = lambda values, step, **_: self.lines.append(
            (step, {name: value for name, value in values.items() if name not in TIMINGS})
        )


def run(make: Make, hook: dict[str, Any], name: str, **overrides: Any) -> tuple[Runner, list[Any]]:
    logged = Logged()
    runner = make(name, default_hooks__runtime_info=hook, default_hooks__online_eval=None, **overrides)
    runner.register_hook(logged)
    runner.train()
    return runner, logged.lines


def histories(hub: MessageHub) -> dict[str, list[float]]:
    return {
        name: buffer.data[0].tolist()
        for name, buffer in hub.log_scalars.items()
        if not any(name.endswith(timing) for timing in TIMINGS)
    }


@pytest.mark.parametrize(("interval", "window"), [(2, 3), (3, 2)])
def test_lines_and_histories_equal_mmengine(make_runner: Make, interval: int, window: int) -> None:
    settings = {
        "train_cfg__max_iters": 5,
        "train_cfg__val_interval": 3,
        "default_hooks__logger__interval": interval,
        "log_processor__window_size": window,
        "optim_wrapper__clip_grad": {"max_norm": 0.5},
    }
    buffered, lines = run(make_runner, ASYNC, f"buffered{interval}", **settings)
    eager, expected = run(make_runner, EAGER, f"eager{interval}", **settings)
    assert lines == expected
    assert len([line for _, line in lines if "loss" in line]) >= 5 // interval
    assert {"train/loss", "train/lr", "train/grad_norm", "train/loss_patch"} <= histories(buffered.message_hub).keys()
    assert histories(buffered.message_hub) == histories(eager.message_hub)
    assert buffered.message_hub.get_scalar("train/loss").data[1].tolist() == [1] * 5


def test_resuming_between_two_lines(make_runner: Make) -> None:
    settings = {"default_hooks__logger__interval": 4, "default_hooks__checkpoint__interval": 3}
    unbroken, lines = run(make_runner, ASYNC, "unbroken", train_cfg__max_iters=8, **settings)
    checkpoint = Path(unbroken.work_dir) / "iter_3.pth"
    kept = torch.load(checkpoint, weights_only=False)["message_hub"]["log_scalars"]["train/loss"]
    assert len(kept.data[0]) == 3  # although no line was written in the third step
    resumed, rest = run(
        make_runner, ASYNC, "resumed", train_cfg__max_iters=8, resume=True, load_from=str(checkpoint), **settings
    )
    assert histories(resumed.message_hub) == histories(unbroken.message_hub)
    assert rest == [line for line in lines if line[0] > 3]


def test_losses_are_not_copied_between_two_lines(make_runner: Make) -> None:
    seen = []

    class Look(Hook):
        priority = "LOWEST"

        def after_train_iter(self, runner: Runner, batch_idx: int, **_: Any) -> None:
            seen.append(len(runner.message_hub.log_scalars.get("train/loss", HistoryBuffer()).data[0]))

    runner = make_runner(train_cfg__max_iters=5, default_hooks__logger__interval=3)
    runner.register_hook(Look())
    runner.train()
    # Lines at the end of the first epoch and at the interval; the last step is saved.
    assert seen == [0, 2, 3, 3, 5]
    assert len(runner.message_hub.get_scalar("train/loss").data[0]) == 5


class FakeRunner:
    """The attributes of a runner that the hook uses, with given losses."""

    hooks = ()
    optim_wrapper = type("Wrapper", (), {"get_lr": staticmethod(lambda: {"lr": [0.1]})})()

    def __init__(self, name: str) -> None:
        self.message_hub = MessageHub.get_instance(name)
        self.iter = 0


def test_types_of_values(tmp_path: Path) -> None:
    runner: Any = FakeRunner(str(tmp_path))
    hook = AsyncRuntimeInfoHook()
    value = torch.ones((), requires_grad=True)
    outputs: list[dict[str, Any]] = [
        {
            "loss": value * 2,
            "nan": torch.tensor(math.nan),
            "count": 3,
            "array": np.ones(1),
            "half": torch.tensor(0.5).half(),
        },
        {"loss": torch.tensor([3.0]), "count": torch.tensor(4), "now_and_then": np.float64(0.5)},
    ]
    outputs[0]["half"] = torch.tensor(0.5).half()
    for number, output in enumerate(outputs):
        hook.before_train_iter(runner, number)
        hook.after_train_iter(runner, number, outputs=output)
    outputs[1]["loss"].fill_(7.0)  # as a captured CUDA graph overwrites its outputs
    hook._flush(runner)
    found = {name.removeprefix("train/"): list(b.data[0]) for name, b in runner.message_hub.log_scalars.items()}
    assert math.isnan(found.pop("nan")[0])
    assert found == {
        "lr": [0.1, 0.1],
        "loss": [2, 3],
        "count": [3, 4],
        "array": [1],
        "half": [0.5],
        "now_and_then": [0.5],
    }
    with pytest.raises(TypeError, match=r"logs 'loss' of shape \(2,\): return a single number"):
        hook.after_train_iter(runner, 2, outputs={"loss": torch.zeros(2)})


class Model(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, value: list[torch.Tensor], mode: str = "loss") -> dict[str, torch.Tensor]:
        return {"loss": (self.weight * value[0]).sum()}


class RecordingLogger(LoggerHook):
    """MMEngine's logger that records when it logs."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lines: list[int] = []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        original = runner.log_processor.get_log_after_iter

        def recorded(runner: Runner, batch_idx: int, mode: str) -> Any:
            self.lines.append(runner.iter)
            return original(runner, batch_idx, mode)

        runner.log_processor.get_log_after_iter = recorded
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        runner.log_processor.get_log_after_iter = original


class RecordingHook(Hook):
    def __init__(self) -> None:
        self.due: list[int] = []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if is_logging_due(runner, batch_idx):
            self.due.append(runner.iter)


@pytest.mark.parametrize(
    ("interval", "options", "lines"),
    [
        (3, {}, [3, 6, 10, 13]),
        (3, {"ignore_last": False}, [3, 6, 7, 10, 13, 14]),
        (9, {}, [7, 14]),
    ],
    ids=["interval", "ends", "short epochs"],
)
def test_logging_is_due_when_the_logger_writes(
    tmp_path: Path, interval: int, options: dict[str, bool], lines: list[int]
) -> None:
    """Compare with MMEngine's logger in two epochs of seven steps."""
    logger, hook = RecordingLogger(interval=interval, **options), RecordingHook()
    data = [{"value": torch.ones(1)} for _ in range(7)]
    runner = Runner(
        Model(),
        work_dir=str(tmp_path),
        train_dataloader=dict(dataset=data, sampler=dict(type="DefaultSampler", shuffle=False), batch_size=1),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        default_hooks=dict(logger=logger),
        custom_hooks=[hook],
        experiment_name=tmp_path.name,
    )
    runner.train()
    assert [number + 1 for number in hook.due] == [number + 1 for number in logger.lines] == lines
