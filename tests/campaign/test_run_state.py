"""Bad states and values of a training run, through ``tools/train.py``: one line each, and nothing is damaged."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger
from runs import ROOT, options, write_config, write_images, write_teacher
from safetensors.torch import load_file, save_file

from proteus.cli.run import run
from proteus.utils import exclusive

SMALL = {
    "train_cfg.max_iters": 2,
    "train_dataloader.batch_size": 4,
    "default_hooks.online_eval": None,
    "default_hooks.checkpoint.interval": 1,
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    return write_config(folder, write_images(folder / "images", 8), write_teacher(folder / "teacher.safetensors"))


@pytest.fixture
def train(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[Any, str]]:
    """Run the tool in this process; return its exit status and error output."""
    spec = importlib.util.spec_from_file_location("train_tool", ROOT / "tools/train.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def call(*arguments: Any, **changed: Any) -> tuple[Any, str]:
        values: dict[str, Any] = dict(SMALL)
        values |= {key.replace("__", "."): value for key, value in changed.items()}
        line = [str(config), "--work-dir", str(tmp_path / "run"), *map(str, arguments), *options(values)]
        MMLogger._instance_dict.clear()  # else a run in the same second writes to the stream of the test before
        monkeypatch.setattr(sys, "argv", ["train.py", *line])
        with pytest.raises(SystemExit) as ended:
            run(tool.main, tool.parse_args())
        return ended.value.code, capfd.readouterr().err

    return call


def refused(found: tuple[Any, str], *words: str) -> None:
    status, text = found
    assert status == 2
    assert "Traceback" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    for word in words:
        assert word in text, text[-2000:]
    assert line


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train_cfg.max_iters", 0, "max_iters"),
        ("train_cfg.max_iters", -5, "max_iters"),
        ("train_cfg.val_interval", 0, "val_interval"),
        ("default_hooks.checkpoint.interval", 0, "interval"),
        ("default_hooks.checkpoint.interval", -3, "interval"),
        ("default_hooks.checkpoint.max_keep_ckpts", 0, "max_keep_ckpts"),
        ("default_hooks.checkpoint.save_best", "nothing/top1", "save_best"),
        ("default_hooks.stop_on_nan.interval", 0, "interval"),
        ("default_hooks.save_on_signal.patience", -1, "patience"),
    ],
)
def test_wrong_values(train: Callable[..., Any], tmp_path: Path, key: str, value: Any, words: str) -> None:
    refused(train(**{key.replace(".", "__"): value}), words)
    assert not list((tmp_path / "run").glob("*.pth"))
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_wrong_paths(train: Callable[..., Any], tmp_path: Path) -> None:
    refused(train("--resume", tmp_path / "iter_3.pth"), "--resume: no such checkpoint")
    refused(train("--resume", tmp_path), "is a folder")
    refused(train("--resume-override"), "--resume-override needs --resume")
    refused(train("--launcher", "pytorch"), "RANK")
    refused(train("--launcher", "slurm"), "SLURM_PROCID")
    with exclusive(tmp_path / "run", "training"):
        refused(train(), "in use by training")


def test_a_damaged_run_resumes(train: Callable[..., Any], tmp_path: Path) -> None:
    """Truncated checkpoints, an empty ``last_checkpoint``, a moved folder, a temporary file."""
    assert train()[0] == 0
    folder = tmp_path / "run"
    whole = load_file(folder / "student.safetensors")
    (folder / "iter_2.pth").write_bytes((folder / "iter_2.pth").read_bytes()[:-50])
    (folder / "last_checkpoint").write_bytes(b"")
    (folder / ".iter_2.pth.elsewhere-1.tmp").write_bytes(b"half")
    folder.rename(tmp_path / "moved")
    (tmp_path / "moved").rename(folder)
    (folder / "student.safetensors").unlink()
    status, text = train("--resume")
    assert status == 0, text
    again = load_file(folder / "student.safetensors")
    assert all(torch.equal(again[name], weight) for name, weight in whole.items())
    assert not list(folder.glob(".iter*"))


def test_nan_in_the_weights_of_the_teacher(train: Callable[..., Any], config: Path, tmp_path: Path) -> None:
    weights = load_file(config.parent / "teacher.safetensors")
    next(iter(weights.values())).view(-1)[0] = math.nan
    save_file(weights, tmp_path / "teacher.safetensors")
    status, text = train(model__teacher__backbone__checkpoint=tmp_path / "teacher.safetensors")
    assert status == 2
    assert "Traceback" not in text
    assert not list((tmp_path / "run").glob("*.safetensors"))
    assert not list((tmp_path / "run").glob("iter_*.pth"))


def test_a_diverging_learning_rate(train: Callable[..., Any], tmp_path: Path) -> None:
    found = train(
        param_scheduler__warmup_lr=1e30,
        param_scheduler__min_lr=1e30,
        optim_wrapper__optimizer__lr=1e30,
        train_cfg__max_iters=20,
        train_cfg__val_interval=50,
    )
    refused(found, "stopped: ", "at iteration ", "the last good checkpoint is")
    assert not list((tmp_path / "run").glob("*.safetensors"))
    for path in (tmp_path / "run").glob("iter_*.pth"):
        weights = torch.load(path, weights_only=False)["state_dict"]
        assert all(weight.isfinite().all() for weight in weights.values())
    assert list((tmp_path / "run").glob("nan_iter_*.pth"))
