"""``proteus train CONFIG --check``: build all parts without training."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from torch import nn

from proteus.apis.check_caches import cache_folders, check_caches
from proteus.apis.model_cost import GIB, ProbeCost, StepCost, image_side, probe_cost, step_cost
from proteus.apis.schedule_cost import describe_schedule
from proteus.checkpoints import locate
from proteus.checkpoints.training import load_checkpoint
from proteus.compat import config_dict
from proteus.config.build_errors import as_config_error, check_transforms
from proteus.config.check_consistency import check_batch, check_present, check_sizes, crop_size, pipelines
from proteus.config.check_dense import check_dense
from proteus.config.check_files import missing_files, paths
from proteus.config.check_resolution import check_resolution, mask_patches_of, schedule_of
from proteus.datasets import ProxySet, SampleKey, SeededSet
from proteus.datasets.proxy.collate import check_sample, distill_collate
from proteus.datasets.proxy.seeded_set import seeded_config
from proteus.models import LinearProbe, MultiTeacherDistiller
from proteus.models.distillers.scheduled_sizes import check_masks
from proteus.models.segmentor_widths import check_widths
from proteus.registry import (
    DATA_SAMPLERS,
    DATASETS,
    FUNCTIONS,
    HOOKS,
    LOG_PROCESSORS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    PARAM_SCHEDULERS,
    VISUALIZERS,
)
from proteus.utils.meta_run import MetaRun

_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def check(cfg: Config) -> str:
    """Build all parts of a config, models on the meta device, and report the cost of a run.

    Missing files are listed, and are not an error.

    Returns:
        A report for the terminal.

    Raises:
        ConfigError: Parts do not fit each other, or have wrong arguments.
        CheckpointError: Weights are unsafe, damaged, or made for another model.
    """
    init_default_scope(cfg.get("default_scope", "proteus"))
    check_present(cfg, "model", "train_dataloader")
    check_transforms(cfg)
    check_batch(cfg)
    check_sizes(cfg)
    check_resolution(cfg)
    check_dense(cfg)
    missing = missing_files(cfg)
    if cfg.get("load_from") and locate(cfg.load_from).is_file():
        load_checkpoint(cfg.load_from)
    with as_config_error(cfg):
        model = build_without_memory(cfg.model)
        check_widths(model)
        side = crop_size(cfg)
        if side is not None and hasattr(model, "distillers"):
            check_masks(model, [(side, side)], mask_patches_of(cfg))
        _build_training(cfg, model)
        absent = {entry.path for entry in missing}
        sets = {key: _build_loader(key, cfg[key], absent, model) for key in _LOADERS if cfg.get(key)}
        missing += check_caches(cfg, model, sets["train_dataloader"])
        costs = describe_cost(cfg, model)
    lines = [f"{cfg.filename}: every key is known and every part was built", *costs]
    if cfg.get("train_cfg", {}).get("max_iters"):
        lines.append(_row("schedule", f"{cfg.train_cfg.max_iters:,} iterations"))
    lines += [_row(key, f"{len(built):,} images") for key, built in sets.items() if built is not None]
    if missing:
        lines.append("missing on this machine (create them, or override the keys with --cfg-options):")
        # Most configs use the validation loader for testing as well: list each path once.
        lines += [f"  {entry}" for entry in {entry.path: entry for entry in reversed(missing)}.values()][::-1]
    return "\n".join(lines)


def build_without_memory(config: Mapping[str, Any]) -> Any:
    """Build a model on the meta device; existing weight files are read and checked."""
    config = copy.deepcopy(config)
    weights = _pop_checkpoints(config)
    with torch.device("meta"), MetaRun():
        model = MODELS.build(config)
    for keys, path in weights:
        part = model
        for key in keys:
            part = part.objectives if key == "objectives" else getattr(part, key)
        if locate(path).is_file() and hasattr(part, "load"):
            part.load(path)
    return model


def _pop_checkpoints(config: Any, keys: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], str]]:
    if not isinstance(config, dict):
        return []
    found = [(keys, config.pop("checkpoint"))] if isinstance(config.get("checkpoint"), str) else []
    for key, value in config.items():
        # The init_cfg of a backbone of another toolbox names its weights.
        found += _pop_checkpoints(value, keys if key == "init_cfg" else (*keys, key))
    return found


def _build_visualizer(cfg: Config) -> None:
    """Build the visualizer, which some hooks need, without its backends, which write files."""
    visualizer = cfg.get("visualizer")
    if visualizer:
        VISUALIZERS.build({**visualizer, "name": f"check_{time.monotonic_ns()}", "vis_backends": None})


def _build_training(cfg: Config, model: nn.Module) -> None:
    _build_visualizer(cfg)
    for config in [*cfg.get("default_hooks", {}).values(), *cfg.get("custom_hooks", [])]:
        if config is not None:
            HOOKS.build(config)
    if cfg.get("log_processor"):
        LOG_PROCESSORS.build({"type": "LogProcessor", **cfg.log_processor})
    for evaluator in (cfg.get("val_evaluator"), cfg.get("test_evaluator")):
        for metric in evaluator if isinstance(evaluator, list) else [evaluator]:
            if metric is not None and "type" in metric:
                METRICS.build(metric)
    if not cfg.get("optim_wrapper"):
        return
    wrapper = dict(cfg.optim_wrapper)
    constructor = {
        "type": wrapper.pop("constructor", "DefaultOptimWrapperConstructor"),
        "paramwise_cfg": wrapper.pop("paramwise_cfg", None),
    }
    optimizer = OPTIM_WRAPPER_CONSTRUCTORS.build({**constructor, "optim_wrapper_cfg": config_dict(Config(wrapper))})(
        model
    )
    schedulers = cfg.get("param_scheduler") or []
    for config in schedulers if isinstance(schedulers, list) else [schedulers]:
        PARAM_SCHEDULERS.build(
            {key: value for key, value in config.items() if key != "convert_to_iter_based"},
            default_args={"optimizer": optimizer},
        )


def _build_loader(key: str, loader: Mapping[str, Any], missing: set[str], model: nn.Module) -> Any:
    """Build the parts of a loader; return the data set, or None if files are missing."""
    collate = loader.get("collate_fn")
    if collate:
        FUNCTIONS.get(collate["type"])
    dataset = seeded_config(loader)
    if any(path in missing for _, path in paths(dataset)):
        for _, pipeline in pipelines(dataset):
            Compose(pipeline)
        return None
    built = DATASETS.build(dataset)
    if loader.get("sampler"):
        DATA_SAMPLERS.build(loader["sampler"], default_args={"dataset": built, "seed": 0})
    # Samples with the teacher's tokens need a cache, which may be built later.
    own = isinstance(built, (SeededSet, ProxySet)) and not dataset.get("cache")
    if own and collate and str(collate["type"]).rpartition(".")[2] == "distill_collate":
        _check_samples(built, loader, model, "loss" if key == "train_dataloader" else "predict")
    return built


def _check_samples(dataset: Any, loader: Mapping[str, Any], model: nn.Module, mode: str) -> None:
    """Run the first samples of a data set through the model, as in the first step.

    Raises:
        DataError: Samples are invalid, or do not fit each other or the model: images that are not multiples of the
            patch size, masks of the wrong length, or no masks for an objective that needs them.
    """
    probability = loader["collate_fn"].get("probability", 0.5)
    enough = math.ceil(1 / probability) + 1 if probability else 0  # for one masked image
    count = min(max(enough, 4), loader["batch_size"])
    samples = [dataset[SampleKey(0, 0, image % len(dataset))] for image in range(count)]
    for sample in samples:
        check_sample(sample)
    batch = distill_collate(samples, probability)
    if hasattr(model, "distillers"):
        images = torch.empty(batch["inputs"].shape, device="meta")
        others = {key: batch[key].to("meta") for key in ("masks", "mask_indices", "labels") if key in batch}
        with MetaRun():
            model(images, **others, mode=mode)


def describe_cost(cfg: Config, model: Any) -> list[str]:
    """Describe parameters, FLOPs and memory of a model on the meta device, one line each."""
    batch = cfg.train_dataloader.batch_size
    if isinstance(model, MultiTeacherDistiller):
        cost = step_cost(model, cfg)
        spread = []
        if model.spread_plan is not None:
            cost = replace(cost, teacher_parameters=model.spread_plan.largest)
            spread = [_row("teachers spread", model.spread_plan.describe())]
        sizes = [_row(title, text) for title, text in describe_schedule(model, cfg)]
        rows = _distiller_rows(_as_cached(cost, cfg), batch, cached=cache_folders(cfg))
        return _grid_rows(cfg, model) + spread + rows + sizes
    if hasattr(model, "distillers"):
        costs = {name: _as_cached(step_cost(each, cfg), cfg) for name, each in model.distillers.items()}
        grids = _grid_rows(cfg, model)
        sizes = [_row(title, text) for title, text in describe_schedule(model, cfg)]
        if "" in costs:
            return grids + _distiller_rows(costs[""], batch, cached=cache_folders(cfg)) + sizes
        return grids + _several_rows(costs, batch, cache_folders(cfg)) + sizes
    if isinstance(model, LinearProbe):
        return _probe_rows(probe_cost(model, cfg))
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    rows = [_row("model", _millions(sum(count for count, _ in counts)))]
    trained = sum(count for count, train in counts if train)
    return rows if all(train for _, train in counts) else [*rows, _row("trained", _millions(trained))]


def _grid_rows(cfg: Config, model: Any) -> list[str]:
    """Describe how the grids of teacher and students are matched, where they differ, at each size of the images."""
    rows = []
    schedule = schedule_of(cfg)
    for name, each in model.distillers.items():
        side = image_side(cfg, each.student)
        sizes = [(side, side)] if schedule is None else schedule.sizes
        found: dict[str, list[str]] = {}
        for size in sizes:
            described = each.describe_grids(size)
            if described:
                found.setdefault(described, []).append(f"{size[0]}x{size[1]}")
        for described, where in found.items():
            place = "" if schedule is None else f"{', '.join(where)} px: "
            rows.append(_row(f"grids {name}".strip(), place + described))
    return rows


def _as_cached(cost: StepCost, cfg: Config) -> StepCost:
    cached = sum(flops for name, (_, flops) in cost.teachers.items() if name in cache_folders(cfg))
    return replace(cost, step_flops=cost.step_flops - cached)


def _several_rows(costs: Mapping[str, StepCost], batch: int, cached: Mapping[str, str]) -> list[str]:
    """Return the rows of a run in which all students share the teacher's forward pass."""
    first, *others = costs.values()
    shared = replace(
        first,
        trained_parameters=sum(cost.trained_parameters for cost in costs.values()),
        copied_parameters=sum(cost.copied_parameters for cost in costs.values()),
        step_flops=first.step_flops + sum(c.step_flops - (0 if cached else c.teacher_flops) for c in others),
        activation_bytes=sum(cost.activation_bytes for cost in costs.values()),
    )
    return _distiller_rows(shared, batch, costs, cached)


def _distiller_rows(
    cost: StepCost, batch: int, students: Mapping[str, StepCost] | None = None, cached: Mapping[str, str] | None = None
) -> list[str]:
    gibs = [cost.memory(batch, low_precision) / GIB for low_precision in (True, False)]
    named = {f"student {name}": each for name, each in students.items()} if students else {"student": cost}
    return [
        *(
            _row(
                f"teacher {name}".strip(),
                f"{_millions(parameters)}, {flops / 1e9:.1f} GFLOPs per image"
                + (f", not run: tokens are read from {cached[name]}" if cached and name in cached else ""),
            )
            for name, (parameters, flops) in cost.teachers.items()
        ),
        *(
            _row(name, f"{_millions(each.student_parameters)}, {each.student_flops / 1e9:.1f} GFLOPs per image")
            for name, each in named.items()
        ),
        _row(
            "trained",
            f"{_millions(cost.trained_parameters)}, {'students' if students else 'student'} and distill heads",
        ),
        _row("step", f"{cost.step_flops / 1e9:.1f} GFLOPs per image, forward and backward (1 MAC = 2 FLOPs)"),
        _row(
            "memory",
            f"about {gibs[0]:.1f} GiB in bfloat16, {gibs[1]:.1f} in float32 (a process with {batch} images)",
        ),
    ]


def _probe_rows(cost: ProbeCost) -> list[str]:
    return [
        _row(
            "backbone",
            f"{_millions(cost.backbone_parameters)}, frozen, {cost.backbone_flops / 1e9:.1f} GFLOPs per image",
        ),
        _row("trained", f"{_millions(cost.head_parameters)}, {cost.heads} linear heads"),
        _row("heads", f"{cost.head_flops / 1e9:.2f} GFLOPs per image, forward and backward (1 MAC = 2 FLOPs)"),
        _row("memory", f"{cost.memory / GIB:.1f} GiB of weights, gradients and momentum in float32"),
    ]


def _row(title: str, text: str) -> str:
    return f"  {title:<18}{text}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M parameters"
