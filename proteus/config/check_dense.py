"""Configs of segmentors and depth estimators: check sizes; set up test-time augmentation and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from proteus.config.check_consistency import pipelines
from proteus.config.ranges import COUNT, choice, several
from proteus.config.registry_lookup import MODEL, find
from proteus.structures import ConfigError

_PAIR = several(COUNT, 2, "positive integers")


def check_dense(cfg: Config) -> None:
    """Refuse windows and crops that are not multiples of the patch size, or do not match each other.

    Sizes are checked for our dense ViTs; the test mode and window of mmseg's segmentors for any backbone.

    Raises:
        ConfigError: Names the key and the nearest valid sizes.
    """
    _check_windows(cfg)
    model = cfg.model
    backbone = model.get("backbone") or {}
    patch = backbone.get("patch_size", 14)
    if str(backbone.get("type")).rpartition(".")[2] not in ("DenseViT", "RelPosDenseViT"):
        return
    sizes = dict(_sizes(cfg))
    problems = []
    if not backbone.get("center_padding"):
        for key, size in sizes.items():
            wrong = [side for side in size if side % patch]
            if wrong:
                near = wrong[0] // patch * patch
                problems.append(f"{key} = {size}: the patches are {patch} px wide; write {near} or {near + patch}")
    window, padded = (sizes.get(key) for key in ("model.test_cfg.crop_size", "model.data_preprocessor.test_cfg.size"))
    if window and padded and window != padded:
        problems.append(f"model.data_preprocessor.test_cfg.size = {padded}, but model.test_cfg.crop_size = {window}")
    crops = {key: size for key, size in sizes.items() if key.endswith(".crop_size") and "dataset" in key}
    padding = sizes.get("model.data_preprocessor.size")
    for key, size in crops.items():
        if padding and size != padding:
            problems.append(f"{key} = {size}: model.data_preprocessor.size is {padding}; write the same for both")
    if problems:
        raise ConfigError(problems, str(cfg.filename))


def _sizes(cfg: Config) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the key and the value (height, width) of each image size that reaches the backbone."""
    preprocessor = cfg.model.get("data_preprocessor") or {}
    found = {
        "model.data_preprocessor.size": preprocessor.get("size"),
        "model.data_preprocessor.test_cfg.size": (preprocessor.get("test_cfg") or {}).get("size"),
    }
    test = cfg.model.get("test_cfg") or {}
    if str(test.get("mode", "")).startswith("slide"):
        found["model.test_cfg.crop_size"] = test.get("crop_size")
    loader = cfg.get("train_dataloader")
    for key, steps in pipelines(loader.dataset, "train_dataloader.dataset") if loader else ():
        for position, step in enumerate(steps):
            if str(step["type"]).rpartition(".")[2] == "RandomCrop":
                found[f"{key}[{position}].crop_size"] = step.get("crop_size")
    for key, size in found.items():
        if isinstance(size, int):
            yield key, (size, size)
        elif size is not None and _PAIR.accepts(size):
            yield key, (size[0], size[1])


def _check_windows(cfg: Config) -> None:
    """Refuse a ``test_cfg`` at which mmseg's segmentors would fail in the first validation.

    Raises:
        ConfigError: Names the key.
    """
    if not _is_mmsegs(cfg) or not (cfg.get("val_dataloader") or cfg.get("test_dataloader")):
        return
    test = (cfg.model.get("module") or cfg.model).get("test_cfg") or {}
    modes = choice("slide", "whole")
    problems = []
    if not modes.accepts(test.get("mode")):
        problems.append(f"model.test_cfg.mode: found {test.get('mode')!r}, expected {modes.expected}")
    for key in ("crop_size", "stride") if test.get("mode") == "slide" else ():
        if not _PAIR.accepts(test.get(key)):
            problems.append(f"model.test_cfg.{key}: found {test.get(key)!r}, expected {_PAIR.expected}")
    if test.get("mode") == "slide" and not problems:
        window, stride = tuple(test["crop_size"]), tuple(test["stride"])
        if any(step > side for step, side in zip(stride, window, strict=True)):
            problems.append(f"model.test_cfg.stride: found {stride}, expected at most crop_size {window} on each side")
    if problems:
        raise ConfigError(problems, str(cfg.filename))


def use_tta(cfg: Config) -> None:
    """Test on the views of ``tta_pipeline``, merged by ``tta_model``.

    Raises:
        ConfigError: The config has none.
    """
    missing = [key for key in ("tta_model", "tta_pipeline") if not cfg.get(key)]
    if missing:
        raise ConfigError([f"--tta: the config has no {' and no '.join(missing)}"], str(cfg.filename))
    dataset = cfg.test_dataloader.dataset
    while "pipeline" not in dataset and isinstance(dataset.get("dataset"), Mapping):
        dataset = dataset.dataset
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = {**cfg.tta_model, "module": cfg.model}


def show_in(cfg: Config, folder: str | Path) -> None:
    """Let ``default_hooks.visualization`` draw into ``folder``; for models of mmseg ours replaces mmseg's hook.

    Raises:
        ConfigError: The config has no such hook, and its model is not mmseg's.
    """
    hook = (cfg.get("default_hooks") or {}).get("visualization")
    kind = str(hook and getattr(hook.type, "__name__", hook.type))
    if _is_mmsegs(cfg) and (not hook or kind.rpartition(".")[2] == "SegVisualizationHook"):
        hook = {"type": "proteus.SegmentationVisualizationHook"}
    if not hook:
        raise ConfigError(
            ["--show-dir: the config has no default_hooks.visualization, so no pictures can be drawn"],
            str(cfg.filename),
        )
    hook = {**hook, "draw": True, "out_dir": str(folder)}
    cfg.default_hooks = {**(cfg.get("default_hooks") or {}), "visualization": hook}


def _is_mmsegs(cfg: Config) -> bool:
    kind = cfg.model.get("type")
    scope = kind.__module__ if isinstance(kind, type) else str(kind)
    return "decode_head" in (cfg.model.get("module") or cfg.model) and (
        cfg.get("default_scope") == "mmseg" or scope.partition(".")[0] == "mmseg"
    )


def batch_norm_for_cpus(cfg: Config) -> None:
    """Replace SyncBN by BN for several processes without GPUs, since SyncBN needs GPUs.

    This includes parts that use it by default, such as ``BNHead``. For a single process MMEngine replaces it.
    """
    if cfg.get("launcher", "none") != "none" and not torch.cuda.is_available():
        _replace(cfg.model, cfg.get("default_scope") or "proteus")


def _replace(value: Any, scope: str) -> None:
    if isinstance(value, dict):
        if value.get("type") == "SyncBN":
            value["type"] = "BN"
        elif value.get("norm_cfg") is None and (norm := _default_norm(value.get("type"), scope)) is not None:
            value["norm_cfg"] = {**norm, "type": "BN"}
        for item in value.values():
            _replace(item, scope)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _replace(item, scope)


def _default_norm(kind: Any, scope: str) -> Mapping[str, Any] | None:
    """Return the default of a part's ``norm_cfg`` if that is a SyncBN."""
    if isinstance(kind, str):
        found = find(kind, scope, (MODEL,))
        kind = None if found is None else found.target
    parameter = signature(kind).parameters.get("norm_cfg") if isinstance(kind, type) else None
    norm = None if parameter is None else parameter.default
    return norm if isinstance(norm, Mapping) and norm.get("type") == "SyncBN" else None
