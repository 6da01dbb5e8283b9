"""Several processes of one run: a problem of one rank stops all ranks at the same iteration."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from toy_runs import assert_same_run, checkpoints, train_ranks

from proteus.utils import exclusive

pytestmark = pytest.mark.slow


def test_a_signal_to_one_rank_stops_all(tmp_path: Path) -> None:
    assert [rank.status for rank in train_ranks(tmp_path / "whole", max_iters=40)] == [0, 0]
    trouble = {"type": "ToyTrouble", "rank": 1, "number": int(signal.SIGTERM), "sleep": 0.02}
    ranks = train_ranks(tmp_path / "run", hooks=[trouble], max_iters=4000)
    assert [rank.status for rank in ranks] == [143, 143]
    assert "stopped by SIGTERM after iteration" in ranks[0].output
    assert "Traceback" not in ranks[0].output + ranks[1].output
    newest = max(int(name[5:-4]) for name in checkpoints(tmp_path / "run"))
    assert 3 <= newest <= 53
    assert [rank.status for rank in train_ranks(tmp_path / "run", max_iters=60, resume=True)] == [0, 0]
    assert [rank.status for rank in train_ranks(tmp_path / "whole", max_iters=60, resume=True)] == [0, 0]
    assert_same_run(tmp_path / "run/iter_60.pth", tmp_path / "whole/iter_60.pth")


def test_nan_on_one_rank_stops_all(tmp_path: Path) -> None:
    ranks = train_ranks(tmp_path / "run", hooks=[{"type": "ToyTrouble", "rank": 1, "bad": True}], max_iters=20)
    assert [rank.status for rank in ranks] == [2, 2]
    output = ranks[0].output + ranks[1].output
    assert "error: stopped: loss = nan, loss_line = nan at iteration 3 on rank 1" in output
    assert "Traceback" not in output
    assert checkpoints(tmp_path / "run") == {"iter_2.pth", "nan_iter_3.pth"}


def test_a_folder_in_use_is_refused_by_all_ranks(tmp_path: Path) -> None:
    with exclusive(tmp_path / "run", "training"):
        ranks = train_ranks(tmp_path / "run")
    assert [rank.status for rank in ranks] == [2, 2]
    output = ranks[0].output + ranks[1].output
    assert "in use by training" in output
    assert "Traceback" not in output
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_checkpoint_that_cannot_be_written_stops_all_ranks(tmp_path: Path) -> None:
    (tmp_path / "run/iter_4.pth").mkdir(parents=True)
    ranks = train_ranks(tmp_path / "run")
    assert [rank.status for rank in ranks] == [2, 2]
    assert "iter_4.pth: cannot be written (Is a directory)" in ranks[0].output + ranks[1].output
