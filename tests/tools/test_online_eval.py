"""Online evaluation with two ranks, and without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import options, tool, trained, weights

from proteus.evaluation.online.jsonl_log import read_jsonl

pytestmark = pytest.mark.slow


def test_rank_0_evaluates_and_does_not_change_the_run(config: Path, place: Path, tmp_path: Path) -> None:
    # Two classes, and masks of different sizes, on which the ranks agree in each training step.
    enabled = {
        "default_hooks.online_eval.interval": 2,
        "default_hooks.online_eval.knn.data_root": place / "images",
        "default_hooks.online_eval.knn.ks": "(3,)",
        "train_dataloader.batch_size": 4,
        "train_dataloader.dataset.pipeline.5.type": "BlockMask",
        "train_dataloader.dataset.pipeline.5.ratio": "(0.1,0.5)",
    }
    output = trained("train.py", config, "--work-dir", tmp_path / "evaluated", *options(enabled), ranks=2)
    lines = read_jsonl(tmp_path / "evaluated/online_eval.jsonl")
    assert [line["iteration"] for line in lines] == [0, 2, 4, 5]
    assert {"trained_on/unexplained_variance_patch", "trained_on/knn_3_teacher"} <= lines[-1].keys()
    assert output.count("online evaluation [4/5]") == 1

    disabled = {key: value for key, value in enabled.items() if "online_eval" not in key}
    disabled["default_hooks.online_eval"] = None
    output = trained("train.py", config, "--work-dir", tmp_path / "plain", *options(disabled), ranks=2)
    assert "online evaluation [" not in output
    assert not (tmp_path / "plain/online_eval.jsonl").exists()
    evaluated, plain = (weights(tmp_path / name / "iter_5.pth") for name in ("evaluated", "plain"))
    assert all(torch.equal(evaluated[name], value) for name, value in plain.items())


def test_a_missing_labelled_folder_is_an_error(config: Path, tmp_path: Path) -> None:
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
