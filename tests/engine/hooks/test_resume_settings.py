"""Settings that a resumed run takes from its checkpoint or from its config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner
from toy_runs import saved, toy_runner
from two_ranks import on_two_ranks

from proteus.checkpoints.run_settings import read_statistics
from proteus.engine.hooks.resume_settings import ResumeSettingsHook, differences

CHANGED: dict[str, Any] = {
    "optim_wrapper__optimizer__lr": 0.5,
    "optim_wrapper__optimizer__weight_decay": 0.3,
    "train_dataloader__batch_size": 8,
    "max_iters": 4,
}
OURS: dict[str, Any] = {"train_dataloader__sampler": {"type": "ProxySampler", "shuffle": True}}
SAMPLERS: dict[str, dict[str, Any]] = {
    "ours": OURS,
    "MMEngine's": {"train_dataloader__sampler": {"type": "InfiniteSampler", "shuffle": True}},
    "batches": {
        **OURS,
        "train_dataloader__batch_sampler": {"type": "ResolutionBatchSampler", "stages": [{"size": 14}], "max_iters": 6},
    },
}
RANK = """
from pathlib import Path
from test_resume_settings import OURS, drawn

folder = Path(__file__).parent
keys = {"randomness__seed": None, "randomness__diff_rank_seed": True, **OURS}
whole = drawn(folder / "whole", **keys)
dist.barrier()
rest = drawn(folder / "rest", resume=True, load_from=str(folder / "whole/iter_2.pth"), **keys)
result = [whole, rest]
"""


def resumed(folder: Path, override: bool, **keys: Any) -> Runner:
    runner = toy_runner(folder, resume=True, **keys)
    next(hook for hook in runner.hooks if isinstance(hook, ResumeSettingsHook)).override = override
    runner.train()
    return runner


def group(runner: Runner) -> dict[str, Any]:
    found: dict[str, Any] = runner.optim_wrapper.optimizer.param_groups[0]
    return found


def drawn(folder: Path, **keys: Any) -> list[list[str]]:
    """Train; return the names of the images of each batch, which show the keys of our samplers, and the rank's seed."""
    names: list[list[str]] = []

    class Look(Hook):
        def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
            names.append([*data_batch["name"], str(runner.seed)])

    toy_runner(folder, [Look()], **keys).train()
    return names


@pytest.mark.parametrize("seeds", [(None, None), (0, 1)])
@pytest.mark.parametrize("kind", SAMPLERS)
def test_images_come_in_the_order_of_the_checkpoints_seed(
    tmp_path: Path, kind: str, seeds: tuple[int | None, int | None]
) -> None:
    whole = drawn(tmp_path / "whole", randomness__seed=seeds[0], **SAMPLERS[kind])
    resume = {"resume": True, "load_from": str(tmp_path / "whole/iter_2.pth")}
    assert drawn(tmp_path / "rest", randomness__seed=seeds[1], **SAMPLERS[kind], **resume) == whole[2:]


@pytest.mark.parametrize(("kind", "seeds"), [("ours", (None, None)), ("MMEngine's", (0, 1))])
def test_a_seed_for_each_rank_keeps_the_checkpoints_order(
    tmp_path: Path, kind: str, seeds: tuple[int | None, int | None]
) -> None:
    first, second = ({"randomness__seed": seed, "randomness__diff_rank_seed": True} for seed in seeds)
    whole = drawn(tmp_path / "whole", **first, **SAMPLERS[kind])
    resume = {"resume": True, "load_from": str(tmp_path / "whole/iter_2.pth")}
    assert drawn(tmp_path / "rest", **second, **SAMPLERS[kind], **resume) == whole[2:]


@pytest.mark.slow
def test_two_ranks_with_their_own_seeds_draw_what_they_would_have_drawn(tmp_path: Path) -> None:
    for whole, rest in on_two_ranks(RANK, __file__, tmp_path):
        assert rest == whole[2:]


def test_the_samplers_own_seed_is_that_of_the_config(tmp_path: Path) -> None:
    own = {"train_dataloader__sampler": {**OURS["train_dataloader__sampler"], "seed": 7}}
    whole = drawn(tmp_path / "whole", **own)
    resume = {"resume": True, "load_from": str(tmp_path / "whole/iter_2.pth")}
    assert drawn(tmp_path / "rest", randomness__seed=1, **own, **resume) == whole[2:]


def test_the_checkpoints_rate_wins_and_is_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    toy_runner(tmp_path, max_iters=2).train()
    capfd.readouterr()
    runner = resumed(tmp_path, False, **CHANGED)
    output = "".join(capfd.readouterr())
    assert (
        "resumed with the checkpoint's settings, not the config's: optim_wrapper.optimizer.lr = 0.01 (config: 0.5), "
        "optim_wrapper.optimizer.weight_decay = None (config: 0.3); --resume-override takes optimizer settings"
    ) in output
    assert "the config's settings, not the checkpoint's: train_dataloader.batch_size = 8 (checkpoint: 4)" in output
    assert group(runner)["initial_lr"] == 0.01


def test_overridden(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Rates are those of a run that had the config's from the start; moments are the checkpoint's."""
    toy_runner(tmp_path / "run", max_iters=2).train()
    moments = saved(tmp_path / "run/iter_2.pth")["optimizer"]["state"][0]["exp_avg"].tolist()
    toy_runner(tmp_path / "new", **CHANGED).train()
    rates = saved(tmp_path / "new/iter_4.pth")["optimizer"]["param_groups"][0]
    capfd.readouterr()
    seen = []

    class Look(ResumeSettingsHook):
        def before_train(self, runner: Runner) -> None:
            seen.append(next(iter(runner.optim_wrapper.optimizer.state.values()))["exp_avg"].tolist())

    runner = toy_runner(tmp_path / "run", [Look()], resume=True, **CHANGED)
    next(hook for hook in runner.hooks if type(hook) is ResumeSettingsHook).override = True
    runner.train()
    assert seen == [moments]
    assert "the config's settings, not the checkpoint's: optim_wrapper.optimizer.lr = 0.5 (checkpoint: 0.01)" in (
        "".join(capfd.readouterr())
    )
    for key in ("lr", "initial_lr", "weight_decay"):
        assert group(runner)[key] == pytest.approx(rates[key])


def test_the_logged_base_rate_of_several_groups_is_the_configs_too(tmp_path: Path) -> None:
    groups: dict[str, Any] = {
        "optim_wrapper__optimizer__weight_decay": 0.1,
        "optim_wrapper__paramwise_cfg": {"bias_decay_mult": 0.0},
    }
    toy_runner(tmp_path, max_iters=2, **groups).train()
    rates = resumed(tmp_path, True, max_iters=4, optim_wrapper__optimizer__lr=0.5, **groups).optim_wrapper.get_lr()
    assert rates["base_lr"] == rates["lr"][:1]
    assert rates["lr"][0] > 0.05


def test_overriding_nothing_changes_nothing(tmp_path: Path) -> None:
    toy_runner(tmp_path / "whole", max_iters=6).train()
    toy_runner(tmp_path / "run", max_iters=4).train()
    resumed(tmp_path / "run", True, max_iters=6)
    ours, theirs = (saved(tmp_path / name / "iter_6.pth") for name in ("run", "whole"))
    for name, weight in theirs["state_dict"].items():
        assert ours["state_dict"][name].tolist() == weight.tolist()


def test_the_schedule_of_the_config(tmp_path: Path) -> None:
    schedule = [{"type": "MultiStepLR", "milestones": [3], "gamma": 0.1, "by_epoch": False}]
    toy_runner(tmp_path, max_iters=2).train()
    runner = resumed(tmp_path, True, max_iters=4, param_scheduler=schedule)
    assert group(runner)["lr"] == pytest.approx(0.001)


def test_nothing_is_logged_if_nothing_changed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    toy_runner(tmp_path, max_iters=2).train()
    (tmp_path / "iter_2.pth").rename(tmp_path / "iter_2.keep")
    (tmp_path / "iter_2.keep").rename(tmp_path / "iter_2.pth")
    capfd.readouterr()
    resumed(tmp_path, False, max_iters=2)
    assert "resumed with" not in "".join(capfd.readouterr())


def test_a_seed_cannot_be_overridden() -> None:
    before, now = {"randomness.seed": 0, "optim_wrapper.lr": 1}, {"randomness.seed": 1, "optim_wrapper.lr": 2}
    assert differences(before, now, override=True) == [
        "resumed with the checkpoint's settings, not the config's: randomness.seed = 0 (config: 1)",
        "resumed with the config's settings, not the checkpoint's: optim_wrapper.lr = 2 (checkpoint: 1)",
    ]


def test_a_checkpoint_has_values_and_the_config_kinds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    toy_runner(tmp_path, max_iters=2).train()
    capfd.readouterr()
    runner = resumed(tmp_path, False, max_iters=4, optim_wrapper__clip_grad={"max_norm": 0.5})
    assert runner.optim_wrapper.clip_grad_kwargs == {"max_norm": 0.5}
    assert "optim_wrapper.clip_grad.max_norm = 0.5 (checkpoint: None)" in "".join(capfd.readouterr())

    stored = ["optim_wrapper.optimizer.betas", "optim_wrapper.small.optimizer.lr", "optim_wrapper.paramwise_cfg.x"]
    stored += ["param_scheduler.0.end", "randomness.seed"]
    of_config = ["type", "constructor", "dtype", "accumulative_counts", "optimizer.type", "small.optimizer.type"]
    of_config = [f"optim_wrapper.{key}" for key in of_config] + ["randomness.deterministic", "train_cfg.max_iters"]
    kept, taken = differences(dict.fromkeys([*stored, *of_config], 0), dict.fromkeys([*stored, *of_config], 1))
    assert [key for key in [*stored, *of_config] if f"{key} = 0 (config: 1)" in kept] == stored
    assert [key for key in [*stored, *of_config] if f"{key} = 1 (checkpoint: 0)" in taken] == of_config


def test_a_checkpoint_of_an_earlier_version(tmp_path: Path) -> None:
    runner = toy_runner(tmp_path, resume=True)
    for checkpoint in ({}, {"meta": {}}, {"meta": {"settings": "{"}}, {"meta": {"settings": None}}):
        ResumeSettingsHook().after_load_checkpoint(runner, checkpoint)


def test_a_checkpoint_says_how_its_students_images_were_normalised(make_runner: Callable[..., Runner]) -> None:
    halves, usual = (0.5, 0.5, 0.5), (0.485, 0.456, 0.406)
    for name, given in (("own", {"mean": halves, "std": halves}), ("usual", {})):
        overrides = {f"model__data_preprocessor__{key}": value for key, value in given.items()}
        runner = make_runner(name, train_cfg__max_iters=1, default_hooks__checkpoint__interval=1, **overrides)
        runner.train()
        found = read_statistics(Path(runner.work_dir) / "iter_1.pth")
        assert found is not None
        assert found.mean == given.get("mean", usual)
        assert found.std == given.get("std", (0.229, 0.224, 0.225))
