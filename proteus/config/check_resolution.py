"""Check that a schedule of image sizes fits the model and the data of a config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from proteus.config.check_consistency import (
    argument_of,
    class_of,
    crops_to_schedule,
    draws_masks,
    encoders_of,
    has_fixed_views,
    pipelines,
)
from proteus.config.registry_lookup import bare_type
from proteus.registry import DATA_SAMPLERS, TRANSFORMS
from proteus.structures import ConfigError
from proteus.utils.resolution_schedule import ResolutionSchedule

_KEY = "train_dataloader.batch_sampler"


def schedule_of(cfg: Config) -> ResolutionSchedule | None:
    """Return the schedule of image sizes of a config; None for a single size.

    Raises:
        ConfigError: A stage is invalid; the message has the key, what was found and what to write.
    """
    loader = cfg.get("train_dataloader") or {}
    sampler = loader.get("batch_sampler")
    if not isinstance(sampler, Mapping):
        return None
    if not getattr(class_of(sampler, DATA_SAMPLERS), "schedules_resolution", False):
        return None
    options = {key: value for key, value in sampler.items() if key != "type"}
    options["max_iters"] = (cfg.get("train_cfg") or {}).get("max_iters")
    try:
        return ResolutionSchedule(**options, batch_size=loader["batch_size"])
    except ValueError as error:
        raise ConfigError([str(error)], str(cfg.filename or "config")) from error


def mask_patches_of(cfg: Config) -> set[int]:
    """Return the sides in pixels of the patches that the training pipelines of a config mask."""
    dataset = (cfg.get("train_dataloader") or {}).get("dataset") or {}
    steps = [step for _, pipeline in pipelines(dataset) for step in pipeline if draws_masks(step)]
    found = {argument_of(step, "patch_size", TRANSFORMS) for step in steps}
    return {patch for patch in found if isinstance(patch, int)}


def check_resolution(cfg: Config) -> None:
    """Refuse a schedule that model, batch or data of a config cannot follow.

    Raises:
        ConfigError: Names the keys, what was found, and what to write.
    """
    schedule = schedule_of(cfg)
    if schedule is None:
        return
    problems = [*_loop(cfg), *_data(cfg), *_model(cfg, schedule), *_batches(cfg, schedule)]
    if problems:
        raise ConfigError(problems, str(cfg.filename or "config"))


def _loop(cfg: Config) -> Iterator[str]:
    if not (cfg.get("train_cfg") or {}).get("max_iters"):
        yield "train_cfg.max_iters: missing; a schedule of image sizes counts iterations: write max_iters=10000"
    sampler = cfg.train_dataloader.get("sampler") or {}
    if not getattr(class_of(sampler, DATA_SAMPLERS), "gives_sample_keys", False):
        yield (
            f"train_dataloader.sampler.type = {sampler.get('type')!r}: its indices cannot carry a size to the workers; "
            "write sampler=dict(type='ProxySampler')"
        )
    if cfg.train_dataloader.get("drop_last"):
        yield "train_dataloader.drop_last = True: all batches of a schedule are whole; remove it"


def _data(cfg: Config) -> Iterator[str]:
    dataset = cfg.train_dataloader.get("dataset") or {}
    cache = dataset.get("cache")
    if has_fixed_views(dataset) and (any(cache.values()) if isinstance(cache, Mapping) else cache):
        yield (
            f"train_dataloader.dataset.cache = {cache!r}: a teacher cache holds tokens of one image size, "
            f"and {_KEY} changes it; write cache=None, or remove batch_sampler"
        )
    for key, pipeline in pipelines(dataset, "train_dataloader.dataset"):
        for position, step in crops_to_schedule(pipeline):
            yield (
                f"{key}[{position}].type = {bare_type(step)!r}: it makes one size, and {_KEY} changes it; write "
                "LoadRandomResizedCrop or RandomResizedCrop"
            )


def _model(cfg: Config, schedule: ResolutionSchedule) -> Iterator[str]:
    model = cfg.model
    if argument_of(model.get("data_preprocessor") or {}, "shift") is not None:
        yield (
            f"{_KEY}: {bare_type(model.data_preprocessor)} cuts its views out of larger images, of a size that no "
            "stage changes; write model.data_preprocessor=dict(type='DistillDataPreprocessor')"
        )
    for key, teacher in _teachers(model):
        backbone = teacher.get("backbone")
        if isinstance(backbone, Mapping) and not teacher.get("img_size") and _has_one_size(backbone):
            dynamic = f", or {key}.backbone.dynamic_img_size=True" if _can_be_dynamic(backbone) else ""
            yield (
                f"{key}.backbone: {backbone.get('arch')} takes images of one size, and {_KEY} changes it; write "
                f"{key}.img_size={argument_of(backbone, 'img_size')}{dynamic}"
            )
    for part, encoder in encoders_of(model).items():
        if _has_one_size(encoder):
            remedy = f"write {part}.dynamic_img_size=True" if _can_be_dynamic(encoder) else "remove batch_sampler"
            yield f"{part}: {encoder.get('arch')} takes images of one size, and {_KEY} changes it; {remedy}"
        patch = argument_of(encoder, "patch_size")
        if isinstance(patch, int) and schedule.patch_size % patch:
            yield f"{_KEY}.patch_size = {schedule.patch_size}: {part}.patch_size is {patch}; write a multiple of it"


def _teachers(model: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    several = model.get("teachers")
    for name, config in several.items() if isinstance(several, Mapping) else ():
        if isinstance(config, Mapping) and isinstance(config.get("teacher"), Mapping):
            yield f"model.teachers.{name}.teacher", config["teacher"]
    if isinstance(model.get("teacher"), Mapping):
        yield "model.teacher", model["teacher"]


def _has_one_size(backbone: Mapping[str, Any]) -> bool:
    takes_any_size = getattr(class_of(backbone), "takes_any_size", None)
    return takes_any_size is not None and not takes_any_size(backbone)


def _can_be_dynamic(backbone: Mapping[str, Any]) -> bool:
    return not _has_one_size({**backbone, "dynamic_img_size": True})


def _batches(cfg: Config, schedule: ResolutionSchedule) -> Iterator[str]:
    loader = cfg.train_dataloader
    collate = loader.get("collate_fn") or {}
    masks = any(draws_masks(step) for _, pipeline in pipelines(loader.get("dataset") or {}) for step in pipeline)
    probability = collate.get("probability", 0.5) if masks and bare_type(collate) == "distill_collate" else None
    parts = cfg.model.get("micro_batches", 1)
    for segment in {each.batch_size: each for each in schedule.segments}.values():
        count = segment.batch_size
        masked = None if probability is None else int(count * probability)
        place = f"{_KEY}: {count} images of {segment.size[0]}x{segment.size[1]} px"
        if masked == 0:
            yield f"{place}: none of them is masked at collate_fn.probability = {probability}; write more images"
        elif isinstance(parts, int) and (count % parts or (masked or 0) % parts):
            what = f" ({masked} of them masked)" if masked is not None else ""
            yield f"{place}{what} do not divide into model.micro_batches = {parts}; write another batch_size"
