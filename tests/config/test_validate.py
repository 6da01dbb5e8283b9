from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook

from proteus.config.load import validate
from proteus.registry import DATASETS
from proteus.structures import ConfigError


def put(cfg: dict[str, Any], path: str, value: Any) -> None:
    *parts, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    node: Any = cfg
    for part in parts:
        node = node[part]
    node[last] = value


def problems(cfg: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate(cfg)
    assert all(line in str(caught.value) for line in caught.value.problems)
    return caught.value.problems


def test_a_valid_config_passes(good: dict[str, Any]) -> None:
    before = Config(good).to_dict()
    validate(good)
    validate(Config(good))
    assert Config(good).to_dict() == before


@pytest.mark.parametrize(
    ("path", "value", "where", "remedy"),
    [
        ("model.objectivs", {}, "model.objectivs", "'objectives'"),
        ("model.objectives.token.wieght", 2, "model.objectives.token.wieght", "'weight'"),
        ("model.objectives.token.loss.bta", 2, "model.objectives.token.loss.bta", "'beta'"),
        ("model.objectives.token.head.type", "ToyHed", "model.objectives.token.head.type", "'ToyHead'"),
        ("model.type", "Toydistiler", "model.type", "'ToyDistiller'"),
        ("train_dataloader.num_worker", 2, "train_dataloader.num_worker", "'num_workers'"),
        ("train_dataloader.sampler.shufle", 1, "train_dataloader.sampler.shufle", "'shuffle'"),
        ("train_dataloader.sampler.type", "InfinitSampler", "train_dataloader.sampler.type", "'InfiniteSampler'"),
        ("train_dataloader.sampler.type", "AdamW", "train_dataloader.sampler.type", "is a registered optimizer"),
        ("train_dataloader.collate_fn.mask", 1, "train_dataloader.collate_fn.mask", "'masks'"),
        ("train_dataloader.dataset.datasets.0.rot", "x", "train_dataloader.dataset.datasets[0].rot", "'root'"),
        (
            "train_dataloader.dataset.datasets.0.pipeline.0.scal",
            1,
            "train_dataloader.dataset.datasets[0].pipeline[0].scal",
            "'scale'",
        ),
        ("train_cfg.max_iter", 1, "train_cfg.max_iter", "'max_iters'"),
        ("val_cfg.fp61", True, "val_cfg.fp61", "'fp16'"),
        ("val_evaluator.0.topp", 1, "val_evaluator[0].topp", "'topk'"),
        ("optim_wrapper.clip_grd", None, "optim_wrapper.clip_grd", "'clip_grad'"),
        ("optim_wrapper.clip_grad.maxnorm", 1, "optim_wrapper.clip_grad.maxnorm", "'max_norm'"),
        ("optim_wrapper.optimizer.weightdecay", 1, "optim_wrapper.optimizer.weightdecay", "'weight_decay'"),
        ("optim_wrapper.optimizer.type", "AdmW", "optim_wrapper.optimizer.type", "'AdamW'"),
        ("optim_wrapper.constructor", "DefaultOptimConstructor", "optim_wrapper.constructor", "DefaultOptimWrapper"),
        ("optim_wrapper.paramwise_cfg.norm_decay", 0, "optim_wrapper.paramwise_cfg.norm_decay", "'norm_decay_mult'"),
        (
            "optim_wrapper.paramwise_cfg.custom_keys.pos_embed.decay_mul",
            0,
            "optim_wrapper.paramwise_cfg.custom_keys.pos_embed.decay_mul",
            "'decay_mult'",
        ),
        ("param_scheduler.0.start_facto", 1, "param_scheduler[0].start_facto", "'start_factor'"),
        ("default_hooks.checkpoint.intervall", 1, "default_hooks.checkpoint.intervall", "'interval'"),
        ("custom_hooks.0.momentun", 1, "custom_hooks[0].momentun", "'momentum'"),
        ("visualizer.vis_backends.0.savedir", 1, "visualizer.vis_backends[0].savedir", "unknown key"),
        ("log_processor.windowsize", 1, "log_processor.windowsize", "'window_size'"),
        ("env_cfg.cudnn_bench", 1, "env_cfg.cudnn_bench", "'cudnn_benchmark'"),
        ("env_cfg.dist_cfg.backnd", 1, "env_cfg.dist_cfg.backnd", "'backend'"),
        ("randomness.sed", 1, "randomness.sed", "'seed'"),
        ("auto_scale_lr.enabled", 1, "auto_scale_lr.enabled", "'enable'"),
        ("optim_wraper", {}, "optim_wraper", "'optim_wrapper'"),
        ("launcher", "slrum", "launcher", "slurm"),
        ("work_dir", 3, "work_dir", "folder"),
    ],
)
def test_each_problem_comes_with_a_remedy(good: dict[str, Any], path: str, value: Any, where: str, remedy: str) -> None:
    put(good, path, value)
    (line,) = [line for line in problems(good) if line.startswith(f"{where}: ")]
    assert remedy in line


def test_all_problems_are_reported_together(good: dict[str, Any]) -> None:
    put(good, "model.objectives.token.wieght", 1)
    put(good, "param_scheduler.1.Tmax", 1)
    put(good, "randomness.sed", 1)
    assert len(problems(good)) == 3


@pytest.mark.parametrize(
    ("path", "key", "line"),
    [
        ("train_dataloader", "sampler", "train_dataloader: DataLoader needs 'sampler'"),
        ("train_cfg", "max_iters", "needs 'max_"),
        ("train_cfg", "by_epoch", "train_cfg: IterBasedTrainLoop needs 'by_epoch'"),
        ("optim_wrapper", "optimizer", "optim_wrapper: AmpOptimWrapper needs 'optimizer'"),
        ("train_dataloader.sampler", "type", "train_dataloader.sampler: has no 'type'"),
        ("param_scheduler.0", "type", "param_scheduler[0]: has no 'type'"),
        ("val_evaluator.0", "type", "val_evaluator[0]: has no 'type'"),
    ],
)
def test_missing_keys(good: dict[str, Any], path: str, key: str, line: str) -> None:
    node: Any = good
    for part in path.split("."):
        node = node[int(part) if part.isdigit() else part]
    del node[key]
    assert any(line in found for found in problems(good)), problems(good)


def test_arguments_that_the_enclosing_part_passes_may_be_missing(good: dict[str, Any]) -> None:
    assert "in_dim" not in good["model"]["objectives"]["token"]["head"]
    validate(good)


def test_a_misspelt_type_is_reported(good: dict[str, Any]) -> None:
    put(good, "model.objectives.extra", {"tpye": "ToyObjective"})
    (line,) = problems(good)
    assert line.startswith("model.objectives.extra.tpye: ")
    assert "'type'" in line


def test_lists_in_lists(good: dict[str, Any]) -> None:
    choice = {"type": "ToyChoice", "transforms": [[{"type": "ToyCrop", "size": 1}], [{"type": "ToyCrop", "siz": 1}]]}
    put(good, "train_dataloader.dataset.datasets.0.pipeline.0", choice)
    put(good, "val_dataloader.dataset", {"type": "ToyFolder", "root": "x"})
    place = "train_dataloader.dataset.datasets[0].pipeline[0].transforms[1][0]"
    assert [line.split(": ")[0] for line in problems(good)] == [f"{place}.siz", place]


def test_type_as_a_class_and_with_a_scope(good: dict[str, Any]) -> None:
    put(good, "default_hooks.checkpoint.type", CheckpointHook)
    put(good, "train_dataloader.dataset.datasets.0.type", DATASETS.get("ToyFolder"))
    put(good, "optim_wrapper.optimizer.type", torch.optim.SGD)
    put(good, "train_dataloader.sampler.type", "mmengine.InfiniteSampler")
    put(good, "model.type", "proteus.ToyDistiller")
    validate(good)
    put(good, "default_hooks.checkpoint.intervl", 1)
    put(good, "train_dataloader.dataset.datasets.0.rooot", 1)
    assert len(problems(good)) == 2


def test_scope_mark_decides_the_registry(good: dict[str, Any]) -> None:
    good["default_scope"] = "mmengine"
    assert any("model.type" in line and "'proteus.ToyDistiller'" in line for line in problems(good))
    put(good, "model._scope_", "proteus")
    put(good, "train_dataloader.dataset._scope_", "proteus")
    put(good, "val_dataloader.dataset._scope_", "proteus")
    put(good, "train_dataloader.collate_fn._scope_", "proteus")
    put(good, "val_evaluator.0._scope_", "proteus")
    good.pop("train_pipeline")
    validate(good)


def test_a_missing_scope_is_one_line(good: dict[str, Any]) -> None:
    good["default_scope"] = "no_such_toolbox"
    (line,) = problems(good)
    assert "no_such_toolbox" in line
    assert "pip install" in line


def test_type_that_is_neither_name_nor_class(good: dict[str, Any]) -> None:
    put(good, "model.teacher.type", 3)
    (line,) = problems(good)
    assert line.startswith("model.teacher: type is 3")


def test_open_keyword_arguments_are_accepted(good: dict[str, Any]) -> None:
    put(good, "model.teacher.whatever", 1)
    validate(good)


def test_variables_are_allowed(good: dict[str, Any]) -> None:
    good.update(
        dataset_type="ToyFolder", crop_size=(2, 2), train_dataset={"a": 1}, val_pipeline=[], max_iters=3, _model=1
    )
    validate(good)


def test_a_problem_of_a_variable_is_reported_where_it_is_used(good: dict[str, Any]) -> None:
    put(good, "train_pipeline.0.siz", 1)
    put(good, "val_dataloader.dataset.pipeline", list(good["train_pipeline"]))
    assert [line.split(": ")[0] for line in problems(good)] == ["val_dataloader.dataset.pipeline[0].siz"]
    put(good, "val_dataloader.dataset.pipeline", [])
    put(good, "train_dataloader.dataset.datasets.0.pipeline", [])
    assert [line.split(": ")[0] for line in problems(good)] == ["train_pipeline[0].siz"]


def test_several_optimizers_by_name(good: dict[str, Any]) -> None:
    wrapper = good["optim_wrapper"] | {"paramwise_cfg": None}
    good["optim_wrapper"] = {"constructor": "DefaultOptimWrapperConstructor", "one": wrapper, "two": wrapper}
    good["param_scheduler"] = {"one": good["param_scheduler"], "two": [{"type": "ConstantLR", "factr": 1}]}
    assert [line.split(": ")[0] for line in problems(good)] == ["param_scheduler.two[0].factr"]


def test_half_a_phase_is_refused(good: dict[str, Any]) -> None:
    del good["val_evaluator"]
    (line,) = problems(good)
    assert line.startswith("val_evaluator: missing")
    assert "val_dataloader, val_cfg" in line


def test_a_work_dir_that_is_a_file(good: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "epoch_10.pth").touch()
    good["work_dir"] = str(tmp_path / "epoch_10.pth")
    (work_dir,) = problems(good)
    assert "is a file" in work_dir
    # Whether it is there is a question of the machine: --check lists it, and training refuses it.
    good.update(load_from=str(tmp_path / "epoch_1O.pth"), work_dir=str(tmp_path / "new"))
    validate(good)


def test_other_toolboxes_are_not_imported(good: dict[str, Any]) -> None:
    before = {name for name in ("mmseg", "mmpretrain") if name in sys.modules}
    put(good, "model.teacher.type", "ToyTeache")
    problems(good)
    assert {name for name in ("mmseg", "mmpretrain") if name in sys.modules} == before
