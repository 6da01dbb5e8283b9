"""A run with several image sizes, uninterrupted, and stopped in each of its stages and resumed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from runs import tool, trained, write_config, write_images, write_teacher
from torch import Tensor

from proteus.apis import load_config
from proteus.apis.training import train
from proteus.engine.hooks.resolution import ResolutionHook
from proteus.registry import HOOKS
from proteus.structures import DataError, UserError
from proteus.utils.resolution_schedule import ResolutionSchedule

# Stages of one size, of a growing one, and of one that is not square; larger batches in the first.
STAGES = [dict(size=28, end=3, batch_size=12), dict(grow_from=28, size=56, end=7), dict(size=(42, 84))]
SIZES = [(28, 28)] * 4 + [(42, 42)] + [(56, 56)] * 2 + [(42, 84)] * 2
RUN = """
train_dataloader.update(batch_sampler=dict(type="ResolutionBatchSampler", scale_lr="sqrt", stages={stages}))
model["student"].update(drop_path_rate=0.1)
train_cfg.update(max_iters=9)
default_hooks.update(online_eval=None, export=None, checkpoint=dict(interval=1, max_keep_ckpts=-1))
custom_hooks = [dict(type="Recorder"), dict(type="EMAHook", ema_type="ForeachEMA", momentum=0.1)]
val_cfg = val_dataloader = val_evaluator = visualizer = None
"""
# Ends the process as if the machine's memory had run out, once inside each stage.
KILLER = """
import os
import signal
from pathlib import Path

from mmengine.hooks import Hook

from proteus.registry import HOOKS


@HOOKS.register_module()
class Killer(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        mark = Path(runner.work_dir, f"killed_{runner.iter}")
        if runner.iter in (1, 5, 8) and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""
KILLED = """
custom_imports = dict(imports=["killer"])
custom_hooks = [dict(type="Killer"), *custom_hooks[1:]]
"""
seen: list[tuple[int, tuple[int, ...], float]] = []


@HOOKS.register_module()
class Recorder(Hook):
    """Keep the shape of each batch and the learning rate of each step."""

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep them."""
        shape = tuple(data_batch["inputs"].shape)
        seen.append((runner.iter, shape, runner.optim_wrapper.param_groups[0]["lr"]))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resolution")
    path = write_config(folder, write_images(folder / "images"), write_teacher(folder / "teacher.safetensors"))
    path.write_text(path.read_text() + RUN.format(stages=STAGES))
    return path


@pytest.fixture(scope="module")
def run(config: Path) -> Callable[..., dict[str, Any]]:
    def start(name: str, resume: Path | None = None, **overrides: Any) -> dict[str, Any]:
        cfg = load_config(config, {key.replace("__", "."): value for key, value in overrides.items()})
        cfg.work_dir, cfg.experiment_name = str(config.parent / name), f"{config.parent.name}-{name}"
        seen.clear()
        train(cfg, resume)
        last: dict[str, Any] = torch.load(config.parent / name / "iter_9.pth", weights_only=False)
        return last

    return start


@pytest.fixture(scope="module")
def unbroken(run: Callable[..., dict[str, Any]]) -> tuple[dict[str, Any], list[tuple[int, tuple[int, ...], float]]]:
    return run("unbroken"), list(seen)


def test_batches_and_rates_of_each_iteration(unbroken: Any, config: Path) -> None:
    _, steps = unbroken
    assert [shape[-2:] for _, shape, _ in steps] == SIZES
    assert [shape[0] for _, shape, _ in steps] == [12, 12, 12, *[8] * 6]
    # The recipe's rate is constant in the first 6 iterations. What is saved is not scaled.
    rates = [rate for _, _, rate in steps]
    assert rates[:6] == pytest.approx([1e-3 * 1.5**0.5] * 3 + [1e-3] * 3)
    for iteration in (2, 3):
        saved = torch.load(config.parent / "unbroken" / f"iter_{iteration}.pth", weights_only=False)
        assert saved["optimizer"]["param_groups"][0]["lr"] == 1e-3


@pytest.mark.parametrize(("stopped", "workers"), [(2, 2), (5, 0), (8, 0)])
def test_resumed_inside_each_stage(
    unbroken: Any, run: Callable[..., dict[str, Any]], config: Path, stopped: int, workers: int
) -> None:
    wanted, steps = unbroken
    checkpoint = config.parent / "unbroken" / f"iter_{stopped}.pth"
    # Workers read several batches ahead, of the next stages as well.
    more = {"train_dataloader__num_workers": workers, "train_dataloader__persistent_workers": True} if workers else {}
    found = run(f"resumed-{stopped}-{workers}", checkpoint, **more)
    assert seen == steps[stopped:]
    for part in ("state_dict", "ema_state_dict", "optimizer"):
        assert_equal(found[part], wanted[part])


@pytest.mark.slow
def test_killed_inside_each_stage_and_resumed_by_the_same_command(unbroken: Any, config: Path, tmp_path: Path) -> None:
    (tmp_path / "killer.py").write_text(KILLER)
    (tmp_path / "run.py").write_text(config.read_text() + KILLED)
    command = ("train.py", tmp_path / "run.py", "--work-dir", tmp_path / "run", "--resume")
    for _ in range(3):
        assert tool(*command, path=tmp_path).returncode == -signal.SIGKILL
    assert {path.name for path in tmp_path.glob("run/killed_*")} == {"killed_1", "killed_5", "killed_8"}
    trained(*command, path=tmp_path)
    found = torch.load(tmp_path / "run/iter_9.pth", weights_only=False)
    for part in ("state_dict", "ema_state_dict", "optimizer"):
        assert_equal(found[part], unbroken[0][part])


def assert_equal(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    if isinstance(wanted, Tensor):
        assert torch.equal(found, wanted)
    elif isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            assert_equal(found[key], value)
    elif isinstance(wanted, (list, tuple)):
        for one, other in zip(found, wanted, strict=True):
            assert_equal(one, other)
    else:
        assert found == wanted


def test_images_of_another_size_are_refused() -> None:
    hook = ResolutionHook()
    hook.schedule = ResolutionSchedule([dict(size=28)], 4)
    batch = {"inputs": torch.zeros(4, 3, 70, 70)}
    with pytest.raises(DataError, match=r"images of 70x70 px where .*batch_sampler asks for 28x28: .*wanted_size"):
        hook.before_train_iter(SimpleNamespace(iter=0), 0, batch)


def test_the_hook_needs_a_schedule(make_runner: Callable[..., Runner]) -> None:
    runner = make_runner()
    runner.train_loop  # noqa: B018 (builds it)
    with pytest.raises(UserError, match="batch_sampler=dict"):
        ResolutionHook().before_train(runner)


def test_several_optimizers_are_refused(make_runner: Callable[..., Runner]) -> None:
    runner = make_runner()
    runner.train_loop.dataloader = SimpleNamespace(batch_sampler=SimpleNamespace(schedules_resolution=True))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    runner.optim_wrapper = OptimWrapperDict(model=OptimWrapper(optimizer))
    with pytest.raises(UserError, match="ResolutionHook is for a run with one optimizer"):
        ResolutionHook().before_train(runner)
