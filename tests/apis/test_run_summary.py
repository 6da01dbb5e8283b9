"""The lines before the first and after the last iteration."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.config import Config
from torch import nn

from proteus.apis import run_summary


def runner(folder: Path, length: dict[str, int], loader: dict[str, Any]) -> Any:
    """What the lines need of a runner, with a model of six weights, two of which are frozen."""
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    cfg = Config({"train_cfg": length, "train_dataloader": loader, "model": {"type": "Unknown"}})
    logger = logging.getLogger("run_summary")
    return SimpleNamespace(cfg=cfg, model=model, logger=logger, work_dir=folder, log_dir=folder, timestamp="now")


@pytest.mark.parametrize(
    ("length", "loader", "ranks", "schedule"),
    [
        ({"max_iters": 20}, {"batch_size": 8}, 2, "20 iterations, 8 images per process, 2 processes"),
        ({"max_epochs": 3}, {"batch_sampler": {}}, 1, "3 epochs, 1 process"),
        # Long enough to count FLOPs, which this model does not allow.
        ({"max_iters": 2000}, {"batch_size": 8}, 1, "2,000 iterations, 8 images per process, 1 process"),
    ],
)
def test_the_start_names_size_schedule_and_files(
    length: dict[str, int],
    loader: dict[str, Any],
    ranks: int,
    schedule: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(run_summary, "get_world_size", lambda: ranks)
    with caplog.at_level(logging.INFO, "run_summary"):
        run_summary.log_start(runner(tmp_path, length, loader))
    assert caplog.messages[-1].splitlines() == [
        "training",
        "  trained           0.00 M parameters",
        f"  schedule          {schedule}",
        f"  log               {tmp_path}/now.log (also environment, config, hooks)",
        f"  metrics           {tmp_path}/metrics.jsonl",
    ]


def test_the_end_lists_the_files_and_only_one_rank_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("iter_2.pth", "config.py", ".lock"):
        (tmp_path / name).touch()
    (tmp_path / "logs").mkdir()
    run = runner(tmp_path, {"max_iters": 2}, {})
    with caplog.at_level(logging.INFO, "run_summary"):
        run_summary.log_end(run)
        assert caplog.messages == [f"files in {tmp_path}: config.py, iter_2.pth"]
        monkeypatch.setattr(run_summary, "is_main_process", lambda: False)
        run_summary.log_start(run)
        run_summary.log_end(run)
    assert len(caplog.messages) == 1
