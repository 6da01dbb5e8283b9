"""What makes a step faster or smaller leaves the loss of every step what it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mmengine.hooks import Hook
from runs import options, trained

from proteus.apis import load_config
from proteus.apis.training import build_runner

pytestmark = pytest.mark.slow

STEPS = 20
PLAIN = {
    "optim_wrapper.optimizer.fused": False,
    "model.student.drop_path_rate": 0.0,
    "train_dataloader.sampler.repeats": 1,  # with more, one process draws other images than two
}
BLOCKS = {  # each image masks another number of patches
    "train_dataloader.dataset.pipeline.5.type": "BlockMask",
    "train_dataloader.dataset.pipeline.5.ratio": (0.1, 0.5),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "fused": {"optim_wrapper.optimizer.fused": True},
    "micro_batches": {"model.micro_batches": 4},
    "checkpointing": {"model.student.grad_checkpointing": True},
}
# Also compiled: tests/models/distillers/test_compile_student.py compiles the student alone.
OPTIONS["all"] = {
    **OPTIONS["fused"],
    **OPTIONS["checkpointing"],
    **OPTIONS["micro_batches"],
    "model.compile_student": True,
    "model.teacher.compile": True,
}
# Two processes share a batch in as many parts of as many images, so that what was compiled for one serves them too.
HALVES = {"model.micro_batches": OPTIONS["micro_batches"]["model.micro_batches"] // 2}
TWO_PROCESSES: dict[str, dict[str, Any]] = {"plain": {}, "micro_batches": HALVES, "all": {**OPTIONS["all"], **HALVES}}
# Each process has the losses of its images only.
MEANS = """
import json

from mmengine.dist import all_reduce_dict, is_main_process
from mmengine.hooks import Hook

from proteus.registry import HOOKS


@HOOKS.register_module()
class Means(Hook):
    def __init__(self, file):
        self.file = file

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        means = {name: value.detach().clone() for name, value in outputs.items()}
        all_reduce_dict(means, "mean")
        if is_main_process():
            with open(self.file, "a") as file:
                print(json.dumps({name: value.item() for name, value in means.items()}), file=file)
"""


class Losses(Hook):
    """Keeps what each step's losses were."""

    def __init__(self) -> None:
        self.curve: list[dict[str, float]] = []

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.curve.append({name: value.item() for name, value in outputs.items()})


def curve(config: Path, folder: Path, **values: Any) -> list[dict[str, float]]:
    """The losses of a run in this process."""
    cfg = load_config(
        config, {**BLOCKS, **PLAIN, "train_cfg.max_iters": STEPS, "default_hooks.online_eval": None, **values}
    )
    cfg.work_dir, cfg.experiment_name, cfg.visualizer = str(folder), folder.name, None
    runner = build_runner(cfg)
    losses = Losses()
    runner.register_hook(losses)
    runner.train()
    return losses.curve


def assert_same(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert len(found) == len(expected) == STEPS
    for step, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one == pytest.approx(other, abs=1e-4), step


@pytest.fixture(scope="module")
def plain(config: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    """The losses of the plain path; they fall, so that equal ones say something."""
    losses = curve(config, tmp_path_factory.mktemp("plain"))
    assert losses[0].keys() == {"loss", "loss_token", "loss_feature", "loss_patch"}
    assert losses[-1]["loss"] < 0.9 * losses[0]["loss"]
    return losses


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_does_not_change_the_losses(
    config: Path, plain: list[dict[str, float]], tmp_path: Path, name: str
) -> None:
    assert_same(curve(config, tmp_path, **OPTIONS[name]), plain)


@pytest.mark.parametrize("name", TWO_PROCESSES)
def test_two_processes_do_not_change_the_losses(
    config: Path, plain: list[dict[str, float]], tmp_path: Path, name: str
) -> None:
    (tmp_path / "means.py").write_text(MEANS)
    hook = f"""
custom_imports = dict(imports=["means"])
custom_hooks = [dict(type="Means", file="{tmp_path / "losses.jsonl"}")]
"""
    (tmp_path / "run.py").write_text(config.read_text() + hook)
    values = {**BLOCKS, **PLAIN, "train_cfg.max_iters": STEPS, "default_hooks.online_eval": None, **TWO_PROCESSES[name]}
    values["train_dataloader.batch_size"] = 4
    trained("train.py", tmp_path / "run.py", "--work-dir", tmp_path / "run", *options(values), path=tmp_path, ranks=2)
    assert_same([json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()], plain)
