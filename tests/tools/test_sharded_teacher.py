"""A teacher sharded over two ranks gives the same run as complete teachers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import log_lines, options, trained, weights

from proteus.evaluation.online.jsonl_log import read_jsonl

pytestmark = pytest.mark.slow


def test_the_same_run(config: Path, place: Path, tmp_path: Path) -> None:
    values = {
        "train_dataloader.batch_size": 4,
        # Rank 0 looks at the teacher between two steps, and every one of its passes needs the others.
        "default_hooks.online_eval.interval": 2,
        "default_hooks.online_eval.knn.data_root": place / "images",
        "default_hooks.online_eval.knn.ks": "(3,)",
        "train_cfg.val_interval": 2,
    }
    logs = []
    for name, more in (("whole", {}), ("spread", {"model.teacher.shard": True})):
        run = ("train.py", config, "--work-dir", tmp_path / name)
        logs.append(log_lines(trained(*run, *options({**values, **more}), ranks=2)))
    assert len(logs[0]) == len(logs[1]) == 5
    whole, spread = (weights(tmp_path / f"{name}/iter_5.pth") for name in ("whole", "spread"))
    assert whole.keys() == spread.keys()
    for name, value in whole.items():
        torch.testing.assert_close(spread[name], value, atol=1e-5, rtol=0)
    journals = [read_jsonl(tmp_path / f"{name}/online_eval.jsonl") for name in ("whole", "spread")]
    assert [line["iteration"] for line in journals[1]] == [0, 2, 4, 5]
    for found, wanted in zip(journals[1], journals[0], strict=True):
        for key in wanted.keys() - {"seconds"}:
            assert found[key] == pytest.approx(wanted[key], rel=1e-4, abs=1e-4), key
