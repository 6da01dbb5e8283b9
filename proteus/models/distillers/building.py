"""Build the parts of a distiller from their configs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from torch import nn

from proteus.checkpoints import prefix_checkpoint_errors
from proteus.models.distillers.data_preprocessor import DistillDataPreprocessor
from proteus.models.objectives import Objective
from proteus.models.teachers import Teacher
from proteus.models.teachers.spread import SpreadPlan, SpreadTeacher, TeacherExchange
from proteus.registry import MODELS


def build_preprocessor(config: dict[str, Any] | DistillDataPreprocessor | None) -> DistillDataPreprocessor:
    """Build the data preprocessor in Proteus's registry, which MMEngine asks only if a default scope is set."""
    if isinstance(config, nn.Module):
        return config
    built: DistillDataPreprocessor = MODELS.build(config or {"type": "DistillDataPreprocessor"})
    return built


def build_teacher(config: dict[str, Any] | Teacher, preprocessor: Any, key: str = "model.teacher") -> Teacher:
    """Build the teacher of images that ``preprocessor`` normalises.

    Args:
        config: Config of the teacher, or one that is built already.
        preprocessor: The data preprocessor.
        key: Key of the teacher in the config, for messages.

    Raises:
        ValueError: Its backbone does not take images of its ``img_size``.
        CheckpointError: Its weights cannot be read, or are another model's.
    """
    if isinstance(config, nn.Module):
        return config
    with prefix_checkpoint_errors(key, separator="."):
        statistics = {"input_mean": preprocessor.channel_mean, "input_std": preprocessor.channel_std}
        built: Teacher = MODELS.build(config, default_args=statistics)
    if isinstance(built, Teacher):  # one of another package may have no such check
        built.check_size(key)
    return built


def build_teachers(configs: Mapping[str, Any], preprocessor: Any) -> dict[str, Teacher]:
    """Build several teachers, by name; see :func:`build_teacher`."""
    return {name: build_teacher(config, preprocessor, _key(name)) for name, config in configs.items()}


def build_spread_teachers(
    configs: Mapping[str, Any], preprocessor: Any
) -> tuple[dict[str, Teacher], SpreadPlan | None, TeacherExchange | None]:
    """Build those of several teachers that this process holds, and the others on the meta device.

    Teachers without parameters are built in all processes. Weights that are not loaded are drawn from a copy of the
    random state, so that the student has the same in all processes.

    Args:
        configs: Configs of the teachers by name.
        preprocessor: As for :func:`build_teacher`.

    Returns:
        The teachers by name, which process holds which, and what exchanges images and features. With one process or one
        teacher all are built, and the log says so. On the meta device there is nothing to exchange, and the plan is
        that of as many processes as there are teachers.

    Raises:
        ValueError: A teacher is sharded.
    """
    for name, config in configs.items():
        if isinstance(config, Mapping) and config.get("shard"):
            raise ValueError(
                f"{_key(name)}.shard=True spreads the weights of one teacher over all processes, and "
                f"model.spread_teachers=True whole teachers: write {_key(name)}.shard=False, or spread_teachers=False"
            )
    meta, world = torch.get_default_device().type == "meta", get_world_size()
    with torch.device("meta"):
        outlines = build_teachers({name: without_weights(config) for name, config in configs.items()}, preprocessor)
    counts = {name: sum(each.numel() for each in teacher.parameters()) for name, teacher in outlines.items()}
    sizes = {name: count for name, count in counts.items() if count}
    if meta:
        plan = SpreadPlan.of(sizes, len(sizes)) if len(sizes) > 1 else None
        return build_teachers(configs, preprocessor), plan, None
    if world == 1 or len(sizes) < 2:
        what = "process" if world == 1 else "teacher"
        print_log(f"model.spread_teachers=True has no effect: there is one {what}", logger="current")
        return build_teachers(configs, preprocessor), None, None
    plan = SpreadPlan.of(sizes, world)
    exchange = TeacherExchange(plan)
    held = {name: config for name, config in configs.items() if name not in sizes or exchange.holds(name)}
    with torch.random.fork_rng(devices=[]):
        teachers = outlines | build_teachers(held, preprocessor)
    for name in sizes:
        teachers[name].spread = SpreadTeacher(name, exchange)
    print_log(f"model.spread_teachers: {plan.describe()}", logger="current")
    return teachers, plan, exchange


def without_weights(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the config of a model in which no part loads weights."""
    copied = copy.deepcopy(dict(config))
    _drop_weights(copied)
    return copied


def _drop_weights(config: Any) -> None:
    if isinstance(config, dict):
        for key in ("checkpoint", "init_cfg"):
            if config.get(key) is not None:
                config[key] = None
        for value in config.values():
            _drop_weights(value)


def _key(name: str) -> str:
    return f"model.teachers.{name}.teacher"


def dependencies_first(objectives: dict[str, Objective]) -> dict[str, Objective]:
    """Order objectives so that one that reuses another's term follows it; the config may have any order."""
    ordered: dict[str, Objective] = {}
    for name, objective in objectives.items():
        if objective.cls_term in objectives:
            ordered.setdefault(objective.cls_term, objectives[objective.cls_term])
        ordered.setdefault(name, objective)
    return ordered
