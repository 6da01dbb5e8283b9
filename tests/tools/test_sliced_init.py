"""Two ranks begin with the weights that one has fitted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import options, trained, weights

pytestmark = pytest.mark.slow


def test_two_ranks_begin_alike(config: Path, tmp_path: Path) -> None:
    sliced = tmp_path / "sliced.py"
    sliced.write_text(f'_base_ = "{config}"\ncustom_hooks = [dict(type="SlicedInitHook", views=32)]\n')
    # Hardly a step, so that what is compared is the start.
    rates = ("optim_wrapper.optimizer.lr", "param_scheduler.warmup_lr", "param_scheduler.min_lr")
    still = {"train_cfg.max_iters": 2, **dict.fromkeys(rates, 1e-6)}
    output = trained("train.py", sliced, "--work-dir", tmp_path / "two", *options(still), ranks=2)
    assert output.count("sliced initialization: student fitted on") == 1
    trained("train.py", sliced, "--work-dir", tmp_path / "one", *options(still))
    one, two = (weights(tmp_path / name / "iter_2.pth") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-4, rtol=1e-3)
