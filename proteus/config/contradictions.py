"""Keys and values that are valid alone and contradict each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from proteus.config.ranges import are_numbers
from proteus.config.registry_lookup import bare_type
from proteus.config.signatures import Keys

_ENDLESS = ("InfiniteSampler", "ProxySampler", "ShardSampler")  # other toolboxes start the names with Infinite
_SCHEDULES = ("LR", "Momentum", "ParamScheduler", "Scheduler")
_DECAYS = ("bias_decay_mult", "norm_decay_mult", "flat_decay_mult", "dwconv_decay_mult")
_ONE_RATE = ("MergedGroupsConstructor", "DefaultOptimWrapperConstructor")


def contradictions_in_dict(label: str, value: Mapping[str, Any], keys: Keys) -> Iterator[tuple[str, str]]:
    """Find contradictions in one dict.

    Args:
        label: Type of the dict without its scope, or the label of its slot.
        value: The dict.
        keys: The keys that it may have.

    Yields:
        A key, and the problem with its value.
    """

    def get(key: str) -> Any:
        hint = keys.hints.get(key)
        return value.get(key, hint.default if hint else None)

    if label == "DataLoader" and not value.get("num_workers", 0):
        for key, without in (("persistent_workers", False), ("prefetch_factor", None)):
            if value.get(key):
                yield key, f"found {value[key]} with num_workers=0, expected {without}, or a positive num_workers"
    begin, end = value.get("begin", 0), value.get("end")
    if label.endswith(_SCHEDULES) and are_numbers(begin, end) and end <= begin:
        yield "end", f"found {end} with begin={begin}, expected an integer above it"
    warmup, epochs = value.get("warmup_epochs", 0), value.get("epochs", math.inf)
    if are_numbers(warmup, epochs) and warmup >= epochs:
        yield "warmup_epochs", f"found {warmup} of {epochs} epochs, expected fewer"
    size, patch = get("img_size"), get("patch_size")
    if label in ("ViT", "DenseViT") and isinstance(size, int) and isinstance(patch, int) and size % patch:
        fitting = " or ".join(str(n) for n in (size - size % patch, size - size % patch + patch) if n)
        yield "img_size", f"found {size}, expected a multiple of patch_size={patch}, such as {fitting}"
    width, heads = value.get("embed_dim"), value.get("num_heads")
    if isinstance(width, int) and isinstance(heads, int) and width % heads:
        yield "num_heads", f"found {heads}, expected a divisor of embed_dim={width}"
    low, high = get("min_depth"), get("max_depth")
    if ("min_depth" in value or "max_depth" in value) and are_numbers(low, high) and low >= high:
        yield "max_depth", f"found {high}, expected more than min_depth={low}"


def check_combinations(root: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Find contradictions between sections of a config.

    Args:
        root: The top level of a config.

    Yields:
        A dotted key, and the problem with its value.
    """
    yield from _endless_loops(root)
    yield from _idle_schedules(root)
    yield from _ignored_decay(root)
    yield from _single_checkpoint(root)
    yield from _duplicate_metrics(root)
    if root.get("compile") and {"student", "students"} & set(_dict(root.get("model"))):
        yield (
            "compile",
            "is for other toolboxes' models; write model.compile_student=True or model.teacher.compile=True",
        )


def _endless_loops(root: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Find endless samplers in loops that wait for their end."""
    for phase in ("train", "val", "test"):
        sampler = _dict(_dict(root.get(f"{phase}_dataloader")).get("sampler"))
        name = bare_type(sampler)
        if not (name in _ENDLESS or name.startswith("Infinite")):
            continue
        key = f"{phase}_dataloader.sampler.type"
        if phase != "train":
            yield key, f"{name} never ends, and so would the {phase} loop; write DefaultSampler with shuffle=False"
        elif _counts_epochs(root):
            yield key, f"{name} never ends, and so would the first epoch; write DefaultSampler, or train by max_iters"


def _idle_schedules(root: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Find schedules that never step, and minimum learning rates above the optimizer's."""
    schedules = root.get("param_scheduler")
    listed = isinstance(schedules, (list, tuple))
    rate = _dict(_dict(root.get("optim_wrapper")).get("optimizer")).get("lr")
    scaled = _dict(root.get("auto_scale_lr")).get("enable")
    for index, schedule in enumerate(schedules if isinstance(schedules, (list, tuple)) else [schedules]):
        key, name = f"param_scheduler[{index}]" if listed else "param_scheduler", bare_type(_dict(schedule))
        if not name:
            continue
        by_epoch = schedule.get("by_epoch", name != "DeiTCosineLR")
        if by_epoch is True and not schedule.get("convert_to_iter_based") and _counts_iterations(root):
            yield (
                f"{key}.by_epoch",
                (
                    "True (MMEngine's default), but train_cfg counts iterations: the schedule would never step; "
                    "write by_epoch=False, with begin and end in iterations"
                ),
            )
        for lowest in ("min_lr", "eta_min"):
            value = schedule.get(lowest)
            if name.endswith("LR") and not scaled and are_numbers(value, rate) and rate and 0 < rate < value:
                yield f"{key}.{lowest}", f"found {value}, expected at most optim_wrapper.optimizer.lr={rate}"


def _ignored_decay(root: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Find factors of a missing weight decay, and layer decay that the constructor ignores."""
    wrapper = _dict(root.get("optim_wrapper"))
    optimizer, paramwise = _dict(wrapper.get("optimizer")), _dict(wrapper.get("paramwise_cfg"))
    scaled = next((key for key in _DECAYS if paramwise.get(key) is not None), None)
    if "type" in optimizer and optimizer.get("weight_decay") is None and scaled is not None:
        yield (
            "optim_wrapper.optimizer.weight_decay",
            (f"missing, but optim_wrapper.paramwise_cfg.{scaled} scales it; write weight_decay=0.05, for example"),
        )
    constructor = wrapper.get("constructor", _ONE_RATE[1])
    if isinstance(constructor, str) and constructor.rpartition(".")[2] in _ONE_RATE:
        for key in ("layer_decay_rate", "num_layers"):
            if key in paramwise:
                yield (
                    f"optim_wrapper.paramwise_cfg.{key}",
                    (f"ignored by {constructor}; write constructor='proteus.LayerDecayConstructor'"),
                )


def _single_checkpoint(root: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Find a checkpoint hook that counts epochs in an iteration-based loop."""
    hook = _dict(_dict(root.get("default_hooks")).get("checkpoint"))
    if hook.get("by_epoch") is True and _counts_iterations(root):
        yield (
            "default_hooks.checkpoint.by_epoch",
            ("True, but train_cfg counts iterations: the only checkpoint would be the last; write by_epoch=False"),
        )


def _duplicate_metrics(root: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Find metrics with results of the same name, and evaluators without metrics."""
    for phase in ("val", "test"):
        key = f"{phase}_evaluator"
        evaluator = root.get(key)
        if isinstance(evaluator, Mapping) and "metrics" in evaluator:
            key, evaluator = f"{key}.metrics", evaluator["metrics"]
        if isinstance(evaluator, (list, tuple)):
            if not evaluator:
                yield key, f"is empty; add a metric, or set it, {phase}_dataloader and {phase}_cfg to None"
            seen = [(bare_type(metric), _dict(metric).get("prefix")) for metric in evaluator]
            for index, each in enumerate(seen):
                if each[0] and each in seen[:index] and each[0] != "DumpResults":
                    yield (
                        f"{key}[{index}].prefix",
                        f"{each[0]} is listed twice; write a prefix to distinguish the results",
                    )


def _counts_epochs(root: Mapping[str, Any]) -> bool:
    loop = _dict(root.get("train_cfg"))
    return bare_type(loop) == "EpochBasedTrainLoop" or (
        not bare_type(loop) and loop.get("by_epoch", "max_epochs" in loop)
    )


def _counts_iterations(root: Mapping[str, Any]) -> bool:
    loop = _dict(root.get("train_cfg"))
    return bare_type(loop) == "IterBasedTrainLoop" or (not bare_type(loop) and loop.get("by_epoch") is False)


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
