"""Online evaluation in real processes: two ranks, one of which looks, and the line that switches it off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import options, tool, trained, weights

from proteus.evaluation.online.jsonl_log import read_jsonl

pytestmark = pytest.mark.slow


def test_two_ranks_wait_for_the_one_that_looks(config: Path, place: Path, tmp_path: Path) -> None:
    # Two classes, and masks of different sizes, over which the ranks agree in each training step.
    watch = {
        "default_hooks.online_eval.interval": 2,
        "default_hooks.online_eval.knn.data_root": place / "images",
        "default_hooks.online_eval.knn.ks": "(3,)",
        "train_dataloader.batch_size": 4,
        "train_dataloader.dataset.pipeline.5.type": "BlockMask",
        "train_dataloader.dataset.pipeline.5.ratio": "(0.1,0.5)",
    }
    output = trained("train.py", config, "--work-dir", tmp_path / "watched", *options(watch), ranks=2)
    lines = read_jsonl(tmp_path / "watched/online_eval.jsonl")
    assert [line["iteration"] for line in lines] == [0, 2, 4, 5]
    assert {"trained_on/unexplained_variance_patch", "trained_on/knn_3_teacher"} <= lines[-1].keys()
    assert output.count("online eval [4/5]") == 1

    off = {key: value for key, value in watch.items() if "online_eval" not in key} | {"default_hooks.online_eval": None}
    output = trained("train.py", config, "--work-dir", tmp_path / "alone", *options(off), ranks=2)
    assert "online eval [" not in output
    assert not (tmp_path / "alone/online_eval.jsonl").exists()
    watched, alone = (weights(tmp_path / name / "iter_5.pth") for name in ("watched", "alone"))
    assert all(torch.equal(watched[name], value) for name, value in alone.items())


def test_a_labelled_folder_that_is_not_there(config: Path, tmp_path: Path) -> None:
    nowhere = options({"default_hooks.online_eval.knn.data_root": tmp_path / "nowhere"})
    done = tool("train.py", config, "--work-dir", tmp_path / "run", *nowhere)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "default_hooks.online_eval.knn.data_root: no folder" in done.stderr


def test_a_key_that_knn_does_not_have(config: Path, tmp_path: Path) -> None:
    done = tool(
        "train.py", config, "--work-dir", tmp_path / "run", *options({"default_hooks.online_eval.knn.root": "x"})
    )
    assert done.returncode == 2
    assert "root" in done.stderr
    assert "data_root" in done.stderr
