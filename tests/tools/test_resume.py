"""A run that is killed and resumed is, bit for bit, the run that nobody interrupted."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import log_lines, options, tool, trained

pytestmark = pytest.mark.slow

# Everything that draws random numbers, and everything that has a memory. Workers read ahead of the step.
MORE = """
train_dataloader.update(num_workers=2)
model["student"].update(drop_path_rate=0.1)
custom_hooks = [dict(type="EMAHook", ema_type="ForeachEMA", momentum=0.1)]
train_cfg.update(max_iters=8)
default_hooks["checkpoint"].update(interval=3)
"""
# A process that ends as if the machine's memory had run out, two steps past its first checkpoint.
KILLER = """
import os
import signal

from mmengine.hooks import Hook

from proteus.registry import HOOKS


@HOOKS.register_module()
class Killer(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 4:
            os.kill(os.getpid(), signal.SIGKILL)
"""
KILLED = """
custom_imports = dict(imports=["killer"])
custom_hooks = [*custom_hooks, dict(type="Killer")]
"""


@pytest.fixture(scope="module")
def configs(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``run.py``, and ``killed.py``, which is the same but for its end."""
    folder = tmp_path_factory.mktemp("resume")
    (folder / "run.py").write_text(config.read_text() + MORE)
    (folder / "killed.py").write_text(config.read_text() + MORE + KILLED)
    (folder / "killer.py").write_text(KILLER)
    return folder


@pytest.fixture(scope="module")
def unbroken(configs: Path) -> Path:
    """Work directory of a run that was left alone."""
    trained("train.py", configs / "run.py", "--work-dir", configs / "unbroken")
    return configs / "unbroken"


def test_killed_and_resumed(configs: Path, unbroken: Path, tmp_path: Path) -> None:
    killed = tool("train.py", configs / "killed.py", "--work-dir", tmp_path, path=configs)
    assert killed.returncode == -signal.SIGKILL
    assert {path.name for path in tmp_path.glob("*.pth")} == {"iter_3.pth"}
    output = trained("train.py", configs / "run.py", "--work-dir", tmp_path, "--resume")
    assert len(log_lines(output)) == 5  # 4 to 8; what was done twice is not seen in the end
    assert_same_checkpoint(tmp_path / "iter_8.pth", unbroken / "iter_8.pth")


def test_resumed_from_a_named_checkpoint(configs: Path, unbroken: Path, tmp_path: Path) -> None:
    named = unbroken / "iter_6.pth"
    output = trained("train.py", configs / "run.py", "--work-dir", tmp_path, "--resume", named)
    assert len(log_lines(output)) == 2
    assert_same_checkpoint(tmp_path / "iter_8.pth", unbroken / "iter_8.pth")


def test_a_checkpoint_of_another_width_is_refused(configs: Path, unbroken: Path, tmp_path: Path) -> None:
    wider = options({"model.student.embed_dim": 96})
    assert_refused(
        tool("train.py", configs / "run.py", "--work-dir", tmp_path, "--resume", unbroken / "iter_3.pth", *wider),
        "iter_3.pth does not fit",
        "width 96",
        "width 48",
    )


def test_a_truncated_checkpoint_is_refused(configs: Path, unbroken: Path, tmp_path: Path) -> None:
    half = tmp_path / "iter_3.pth"
    half.write_bytes((unbroken / "iter_3.pth").read_bytes()[:100_000])
    assert_refused(
        tool("train.py", configs / "run.py", "--work-dir", tmp_path, "--resume", half), str(half), "damaged", "earlier"
    )


def test_a_checkpoint_with_code_is_refused_and_its_code_not_run(configs: Path, tmp_path: Path) -> None:
    trap = tmp_path / "iter_3.pth"
    torch.save({"state_dict": {}, "meta": Trap(str(tmp_path / "sprung"))}, trap)
    assert_refused(
        tool("train.py", configs / "run.py", "--work-dir", tmp_path, "--resume", trap), str(trap), "was not opened"
    )
    assert not (tmp_path / "sprung").exists()


class Trap:
    """What a pickle makes of it creates the file ``path``."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def assert_refused(done: Any, *words: str) -> None:
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert not log_lines(done.stdout + done.stderr)
    for word in words:
        assert word in done.stderr


def assert_same_checkpoint(found: Path, wanted: Path) -> None:
    """Compare two checkpoints without times of day."""
    ours, theirs = (torch.load(path, weights_only=False) for path in (found, wanted))
    parts = ["state_dict", "ema_state_dict", "optimizer", "param_schedulers"]
    assert set(parts) <= theirs.keys() == ours.keys()
    for part in parts:
        assert_equal(ours[part], theirs[part], part)
    assert ours["meta"]["iter"] == theirs["meta"]["iter"] == 8
    assert any((theirs["state_dict"][k] != theirs["ema_state_dict"][f"module.{k}"]).any() for k in theirs["state_dict"])


def assert_equal(found: Any, wanted: Any, name: str) -> None:
    assert type(found) is type(wanted), name
    if isinstance(wanted, torch.Tensor):
        assert torch.equal(found, wanted), name
    elif isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), name
        for key in wanted:
            assert_equal(found[key], wanted[key], f"{name}.{key}")
    elif isinstance(wanted, (list, tuple)):
        assert len(found) == len(wanted), name
        for position, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_equal(one, other, f"{name}[{position}]")
    else:
        assert found == wanted, name
