"""Asked in a real loop, after each step: does MMEngine's logger speak now?"""

from typing import Any

import pytest
import torch
from mmengine.hooks import Hook, LoggerHook
from mmengine.model import BaseModel
from mmengine.runner import Runner

from proteus.engine.hooks.logging_due import logs_now


class Model(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, value: list[torch.Tensor], mode: str = "loss") -> dict[str, torch.Tensor]:
        return {"loss": (self.weight * value[0]).sum()}


class Spoken(LoggerHook):
    """MMEngine's logger, which takes down when it speaks."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lines: list[int] = []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        original = runner.log_processor.get_log_after_iter

        def taken_down(runner: Runner, batch_idx: int, mode: str) -> Any:
            self.lines.append(runner.iter)
            return original(runner, batch_idx, mode)

        runner.log_processor.get_log_after_iter = taken_down
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        runner.log_processor.get_log_after_iter = original


class Asked(Hook):
    def __init__(self) -> None:
        self.due: list[int] = []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if logs_now(runner, batch_idx):
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
def test_it_says_when_the_logger_speaks(tmp_path, interval: int, options: dict[str, bool], lines: list[int]) -> None:
    """Two epochs of seven steps."""
    spoken, asked = Spoken(interval=interval, **options), Asked()
    data = [{"value": torch.ones(1)} for _ in range(7)]
    runner = Runner(
        Model(),
        work_dir=str(tmp_path),
        train_dataloader=dict(dataset=data, sampler=dict(type="DefaultSampler", shuffle=False), batch_size=1),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        default_hooks=dict(logger=spoken),
        custom_hooks=[asked],
        experiment_name=tmp_path.name,
    )
    runner.train()
    assert [number + 1 for number in asked.due] == [number + 1 for number in spoken.lines] == lines
