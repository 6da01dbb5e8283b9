"""Check that parts of a config fit each other, before they are built."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.registry import Registry

from proteus.config.registry_lookup import bare_type
from proteus.registry import DATASETS, MODELS, TRANSFORMS
from proteus.structures import ConfigError
from proteus.utils.masked_batches import more_masks


class Crop(NamedTuple):
    """The last crop of a pipeline.

    Attributes:
        position: Its position in the pipeline.
        argument: Its argument that holds the size.
        side: Value of that argument in pixels.
    """

    position: int
    argument: str
    side: int


def check_present(cfg: Config, *keys: str) -> None:
    """Refuse a config without the sections that a tool needs.

    Args:
        cfg: The config.
        *keys: Required top-level keys.

    Raises:
        ConfigError: Names the missing keys.
    """
    problems = [f"{key}: missing; write it, or add a _base_ that has it" for key in keys if not cfg.get(key)]
    if problems:
        raise ConfigError(problems, str(cfg.filename or "config"))


def check_batch(cfg: Config) -> None:
    """Refuse a batch that is too small for one masked image, or that micro-batches do not divide.

    Raises:
        ConfigError: Names the smallest batch size, or the valid numbers of micro-batches.
    """
    loader = cfg.train_dataloader
    collate = loader.get("collate_fn", {})
    masks = any(draws_masks(step) for _, pipeline in pipelines(loader.dataset) for step in pipeline)
    probability = collate.get("probability", 0.5)
    masked = int(loader.batch_size * probability) if masks and bare_type(collate) == "distill_collate" else None
    problems = _unsplit(cfg, masked)
    if masked == 0:
        problems = [
            f"train_dataloader.batch_size = {loader.batch_size}: at train_dataloader.collate_fn.probability = "
            f"{probability} no image of it is masked; {more_masks(probability, 'train_dataloader.batch_size')}"
        ]
    if problems:
        raise ConfigError(problems, str(cfg.filename))


def _unsplit(cfg: Config, masked: int | None) -> list[str]:
    parts, batch = (cfg.get("model") or {}).get("micro_batches"), cfg.train_dataloader.batch_size
    problems = []
    if isinstance(parts, int) and parts > 0 and (batch % parts or (masked or 0) % parts):
        what = f"{batch} images" + (f", {masked} of them masked" if masked is not None else "")
        fitting = [n for n in range(1, batch + 1) if not batch % n and not (masked or 0) % n]
        problems.append(
            f"model.micro_batches = {parts} does not divide train_dataloader.batch_size ({what}); write one of "
            f"{', '.join(map(str, fitting))}"
        )
    distils = "student" in (cfg.get("model") or {}) or "students" in (cfg.get("model") or {})
    accumulated = (cfg.get("optim_wrapper") or {}).get("accumulative_counts", 1)
    if distils and accumulated != 1:
        problems.append(
            f"optim_wrapper.accumulative_counts = {accumulated}: each of its iterations loads a batch and counts in "
            f"the schedule, but only one in {accumulated} updates the weights; write model.micro_batches = "
            f"{accumulated} with train_dataloader.batch_size = {batch * accumulated}"
        )
    return problems


def check_sizes(cfg: Config) -> None:
    """Refuse crops, masks and mixed labels that do not fit the student, or the backbone of a classifier.

    The last crop of a pipeline counts. Backbones for images of any size, such as timm's CNNs, fit every crop unless
    ``img_size`` is written.

    Raises:
        ConfigError: Names both keys.
    """
    problems = []
    shift, shifted_patch = shift_of(cfg.model)
    encoders = encoders_of(cfg.model)
    # Several students share the masks of one of them; for the others they are resampled.
    patches = {argument_of(encoder, "patch_size") for encoder in encoders.values()}
    for part, encoder in encoders.items():
        size, patch = _made_for(encoder), argument_of(encoder, "patch_size")
        if None not in (shifted_patch, patch) and shifted_patch != patch:
            problems.append(f"model.data_preprocessor.patch_size = {shifted_patch}: {part}.patch_size is {patch}")
        written = "img_size" in encoder
        for key, pipeline in pipelines(cfg.train_dataloader.dataset, "train_dataloader.dataset"):
            crop = last_crop(pipeline)
            if size is not None and shift and crop is not None and crop.side != size + shift:
                problems.append(
                    f"{key}[{crop.position}].{crop.argument} = {crop.side}: write {size + shift}, {part}.img_size and "
                    f"the {shift} px by which model.data_preprocessor shifts views"
                )
            elif size is not None and not shift and crop is not None and crop.side != size:
                remedy = "" if written else f" where it is not written; write {part}.img_size={crop.side}"
                kind = pipeline[crop.position]["type"]
                problems.append(
                    f"{key}[{crop.position}].{crop.argument} = {crop.side} ({kind}): {part}.img_size is {size}{remedy}"
                )
            for position, step in enumerate(pipeline):
                own = argument_of(step, "patch_size", TRANSFORMS) if draws_masks(step) else None
                if None not in (own, patch) and own not in patches:
                    problems.append(f"{key}[{position}].patch_size = {own}: {part}.patch_size is {patch}")
        problems += _off_the_grid(cfg, part, patch if _needs_whole_patches(encoder) else None)
    problems += _other_mixed_classes(cfg.model)
    if problems:
        raise ConfigError(problems, str(cfg.filename))


def shift_of(model: Mapping[str, Any]) -> tuple[int, int | None]:
    """Return by how many pixels views are shifted, 0 if they are not, and the patch size that the shift assumes."""
    preprocessor = model.get("data_preprocessor") or {}
    shift = argument_of(preprocessor, "shift") if isinstance(preprocessor, Mapping) else None
    if not isinstance(shift, int):
        return 0, None
    patch = argument_of(preprocessor, "patch_size")
    return shift * patch, patch


def _other_mixed_classes(model: Mapping[str, Any]) -> list[str]:
    """Find objectives on labels with another number of classes than the preprocessor that mixes the labels."""
    preprocessor = model.get("data_preprocessor") or {}
    mixed = argument_of(preprocessor, "num_classes") if isinstance(preprocessor, Mapping) else None
    owners = {"model": model}
    for part in ("students", "teachers"):
        if isinstance(model.get(part), Mapping):
            owners = {f"model.{part}.{name}": config for name, config in model[part].items()}
    problems = []
    for owner, config in owners.items():
        objectives = config.get("objectives") if isinstance(config, Mapping) else None
        for name, objective in objectives.items() if isinstance(objectives, Mapping) else ():
            if objective is None or mixed is None or not _reads_labels(objective):
                continue
            classes = argument_of(objective, "num_classes")
            if classes not in (None, mixed):
                problems.append(
                    f"model.data_preprocessor.num_classes = {mixed}: {owner}.objectives.{name}.num_classes is "
                    f"{classes}; write the data set's number of classes for both"
                )
    return problems


def _reads_labels(objective: Mapping[str, Any]) -> bool:
    if getattr(class_of(objective), "needs_labels", False) is True:
        return True
    alpha = argument_of(objective, "alpha")  # the teacher's share; the rest is the labels'
    return isinstance(alpha, (int, float)) and alpha < 1


def _off_the_grid(cfg: Config, part: str, patch: Any) -> list[str]:
    """Find crops of validation and test images that are not multiples of the patch size."""
    problems: dict[int, str] = {}
    for loader in ("val_dataloader", "test_dataloader") if isinstance(patch, int) else ():
        for key, pipeline in pipelines((cfg.get(loader) or {}).get("dataset") or {}, f"{loader}.dataset"):
            crop = last_crop(pipeline)
            if crop is not None and crop.side % patch:
                lower = crop.side - crop.side % patch
                fitting = " or ".join(str(side) for side in (lower, lower + patch) if side)
                key = f"{key}[{crop.position}].{crop.argument}"
                problems.setdefault(crop.side, f"{key} = {crop.side}: {part}.patch_size is {patch}; write {fitting}")
    return list(problems.values())


def _needs_whole_patches(encoder: Mapping[str, Any]) -> bool:
    return getattr(class_of(encoder), "needs_whole_patches", False) and not encoder.get("center_padding")


def has_fixed_views(dataset: Mapping[str, Any]) -> bool:
    """Whether a data set is a ``FixedViews``, by its class attribute."""
    kind = dataset.get("type")
    return getattr(DATASETS.get(kind) if isinstance(kind, str) else kind, "has_fixed_views", False)


def draws_masks(step: Mapping[str, Any]) -> bool:
    """Whether a transform is a ``MaskTransform``, by its class attribute."""
    kind = step.get("type")
    return getattr(TRANSFORMS.get(kind) if isinstance(kind, str) else kind, "draws_masks", False)


def last_crop(pipeline: Sequence[Any]) -> Crop | None:
    """Find the crop that sets the size of a pipeline's images; None if there is none or its size is unknown."""
    for position, step in reversed(list(enumerate(pipeline))):
        transform = sized_transform(step)
        if transform is not None and transform.gives_square:
            side = _side(step.get(transform.size_argument))
            return None if side is None else Crop(position, transform.size_argument, side)
    return None


def crops_to_schedule(pipeline: Sequence[Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the last crop of a pipeline and its position, if it cannot make images of scheduled sizes."""
    for position, step in reversed(list(enumerate(pipeline))):
        transform = sized_transform(step)
        if transform is not None and transform.gives_square:
            if not getattr(transform, "follows_schedule", False):
                yield position, step
            return


def sized_transform(step: Any) -> Any:
    """Return the class of a transform if it is a ``SizedTransform``, by its class attribute; else None."""
    kind = step.get("type") if isinstance(step, Mapping) else None
    target = TRANSFORMS.get(kind) if isinstance(kind, str) else kind
    return target if hasattr(target, "size_argument") else None


def crop_size(cfg: Config) -> int | None:
    """Side of the training images in pixels; None where it is not known, or not the same for all of them."""
    crops = [last_crop(pipeline) for _, pipeline in pipelines(cfg.train_dataloader.get("dataset") or {})]
    sides = {None if crop is None else crop.side for crop in crops}
    return sides.pop() if len(sides) == 1 else None


def trained_size(cfg: Config, student: Any) -> int | None:
    """Side in pixels of the images that a student gets in training; None where it is not known.

    The pipeline decides, since a CNN takes any size and mmpretrain's do not keep one. Shifted views are smaller than
    the crops.
    """
    crop = crop_size(cfg) if cfg.get("train_dataloader") else None
    size = getattr(student, "img_size", None) if crop is None else crop - shift_of(cfg.model)[0]
    return size if isinstance(size, int) else None


def _made_for(encoder: Mapping[str, Any]) -> int | None:
    """Return the side in pixels of the images that a backbone takes; None for any size or if it is not known."""
    if "img_size" in encoder:
        return _side(encoder["img_size"])
    takes_any_size = getattr(class_of(encoder), "takes_any_size", None)
    if takes_any_size is not None and takes_any_size(encoder):
        return None
    return _side(argument_of(encoder, "img_size"))


def argument_of(part: Mapping[str, Any], name: str, registry: Registry = MODELS) -> Any:
    """Return an argument of a part, as written or by default; None if it has no such argument."""
    target = class_of(part, registry)
    if name in part or target is None:
        return part.get(name)
    parameter = inspect.signature(target).parameters.get(name)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def class_of(part: Mapping[str, Any], registry: Registry = MODELS) -> type | None:
    """Return the class of one of our parts; None for those of other toolboxes, which are not imported."""
    kind = part.get("type")
    if isinstance(kind, str):
        kind = None if "." in kind.removeprefix("proteus.") else registry.get(kind)
    return kind if isinstance(kind, type) else None


def _side(size: Any) -> int | None:
    size = size[0] if isinstance(size, (list, tuple)) and size else size
    return size if isinstance(size, int) else None


def encoders_of(model: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the config of each student, or of the backbone of a classifier, by key."""
    students = model.get("students")
    if isinstance(students, Mapping):
        return {
            f"model.students.{name}.student": config["student"]
            for name, config in students.items()
            if isinstance(config, Mapping) and isinstance(config.get("student"), Mapping)
        }
    part = "backbone" if "student" not in model and "backbone" in model else "student"
    return {f"model.{part}": model.get(part, {})}


def pipelines(dataset: Mapping[str, Any], key: str = "dataset") -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield the key and the steps of each pipeline of a data set config and of the data sets in it."""
    if dataset.get("pipeline"):
        yield f"{key}.pipeline", dataset["pipeline"]
    if isinstance(dataset.get("dataset"), Mapping):  # a wrapper of a data set
        yield from pipelines(dataset["dataset"], f"{key}.dataset")
    inner = dataset.get("datasets")
    for name, member in inner.items() if isinstance(inner, Mapping) else ():
        if member is not None:
            yield from pipelines(member, f"{key}.datasets.{name}")
