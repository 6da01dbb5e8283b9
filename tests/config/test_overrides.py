from __future__ import annotations

from typing import Any

import pytest
from mmengine.config import Config

from proteus.config.load import validate
from proteus.config.overrides import merged
from proteus.structures import ConfigError


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"model.objectivs.token.weight": 1}, ["model.objectivs.token.weight", "'objectives'"]),
        ({"model.objectives.token.wieght": 1}, ["'weight'"]),
        ({"model.objectives.tokn.weight": 1}, ["model.objectives has no 'tokn'", "'token'"]),
        ({"default_hooks.chekpoint.interval": 1}, ["default_hooks has no 'chekpoint'", "'checkpoint'"]),
        ({"optim_wraper.type": "OptimWrapper"}, ["'optim_wraper'", "'optim_wrapper'"]),
        ({"nothing_like_it": 1}, ["'nothing_like_it'", "neither"]),
        ({"param_scheduler.7.end": 1}, ["param_scheduler is a list of 2", "'7'", "0 to 1"]),
        ({"param_scheduler.first.end": 1}, ["'first' is not a position"]),
        ({"param_scheduler.0.ends": 1}, ["'end'"]),
        ({"param_scheduler.0": 1}, ["param_scheduler.0 is a dict with the keys type"]),
        ({"train_cfg": 3}, ["train_cfg.KEY=VALUE"]),
        ({"default_hooks.timer.type": "IterTimerHook"}, ["default_hooks.timer is None", "_delete_"]),
        ({"train_cfg.max_iters.x": 1}, ["train_cfg.max_iters is 10"]),
        ({"optim_wrapper.paramwise_cfg.bias_decay": 1}, ["'bias_decay_mult'"]),
        ({"randomness.sede": 1}, ["'seed'"]),
        (
            {"data_root": "/elsewhere"},
            ["'data_root'", "train_dataloader.dataset.datasets.0.root", "val_dataloader.dataset.root"],
        ),
        ({"train_pipeline.0.size": 9}, ["train_dataloader.dataset.datasets.0.pipeline.0.size"]),
        ({"model.objectives.extra.type": "ToyObjectve"}, ["model.objectives.extra.type", "'ToyObjective'"]),
    ],
)
def test_an_override_of_an_unknown_key_is_refused(
    good: dict[str, Any], overrides: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(good, overrides)
    (line,) = caught.value.problems
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    "overrides",
    [
        {"model.objectives.token.weight": 2},
        {"model.objectives.token.head.out_dim": 3},
        {"model.objectives.token": None},
        {"model.teacher.whatever.deep": 1},
        {"default_hooks.ema.type": "EMAHook", "default_hooks.ema.momentum": 0.1},
        {"default_hooks.sampler_seed": None},
        {"default_hooks.timer._delete_": True, "default_hooks.timer.type": "IterTimerHook"},
        {
            "optim_wrapper.optimizer._delete_": True,
            "optim_wrapper.optimizer.type": "SGD",
            "optim_wrapper.optimizer.weight_decay": 0,
        },
        {"optim_wrapper.accumulative_counts": 2},
        {"param_scheduler.0.end": 7},
        {"randomness.deterministic": True, "resume": True, "work_dir": "somewhere"},
        {
            "data_root": "/new",
            "train_dataloader.dataset.datasets.0.root": "/new",
            "val_dataloader.dataset.root": "/new",
        },
    ],
)
def test_valid_overrides_are_accepted(good: dict[str, Any], overrides: dict[str, Any]) -> None:
    validate(good, overrides)


def test_a_path_built_from_a_variable_is_named(good: dict[str, Any]) -> None:
    good["val_dataloader"]["dataset"]["root"] = "data/toy/val"
    with pytest.raises(ConfigError, match=r"val_dataloader\.dataset\.root"):
        validate(good, {"data_root": "/elsewhere"})


def test_a_number_that_the_file_has_calculated_with_is_refused(good: dict[str, Any]) -> None:
    good["epoch"] = 37
    good["train_cfg"]["max_iters"] = 2 * good["epoch"]
    with pytest.raises(ConfigError, match=r"'epoch' is a variable that the file has already calculated with"):
        validate(good, {"epoch": 38})


def test_all_overrides_and_the_rest_of_the_config_are_checked(good: dict[str, Any]) -> None:
    good["randomness"]["sed"] = 1
    with pytest.raises(ConfigError) as caught:
        validate(good, {"model.objectivs": 1, "param_scheduler.9.end": 1, "train_cfg.max_iters": 5})
    assert len(caught.value.problems) == 3


def test_merging_changes_neither_side(good: dict[str, Any]) -> None:
    config, overrides = (
        Config(good),
        {"custom_hooks.0": {"_delete_": True, "type": "EMAHook"}, "train_cfg.max_iters": 5},
    )
    result = merged(config, overrides)
    assert result.train_cfg.max_iters == 5
    assert config.train_cfg.max_iters == 10
    assert overrides["custom_hooks.0"] == {"_delete_": True, "type": "EMAHook"}
