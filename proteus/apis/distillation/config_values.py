"""The config of a distillation run from its resolved values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proteus.apis import auto_values as auto
from proteus.apis.auto_values import Auto, Machine
from proteus.apis.distillation.data import RunImages
from proteus.apis.distillation.request import Request

BASE = "proteus::_base_/distill.py"
"""Base of the configs that are written."""
# Images that are small and few enough to be kept in memory, decoded: 0.4 MB each, in each worker.
_SMALL_SET = 500
_CACHED = {"type": "LoadImage", "short_side": 320, "cache_in_memory": True}


def config_values(
    request: Request,
    machine: Machine,
    table: Mapping[str, Auto],
    model: Any,
    images: RunImages,
    total: int,
    mask_patch: int | None,
) -> dict[str, Any]:
    """Return the config without its base, in the order in which it is written.

    Args:
        request: The arguments of the run.
        machine: The machine.
        table: The resolved values by name.
        model: Config of the model.
        images: The images.
        total: Images of a step, of all processes together.
        mask_patch: Side in pixels of the patches to mask; None if the student cannot be masked.
    """
    size, iters = int(table["img_size"].value), int(table["iters"].value)
    workers, batch = int(table["workers"].value), int(table["batch_size"].value)
    augmentation, sliced = table["augmentation"].value, table["init"].value == "sliced"
    cached = size <= auto.CPU_SIZE and images.train <= _SMALL_SET
    training = train_pipeline(model, size, augmentation, cached, mask_patch)
    validating = val_pipeline(size, cached)
    lasting = {"persistent_workers": False} if workers == 0 else {}
    pinned = {} if machine.has_gpu else {"pin_memory": False}
    validation = {"batch_size": min(batch, 64), "dataset": images.dataset("held-out", validating)}
    warmup = auto.choose_warmup(iters)
    schedule = [
        {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": warmup},
        {"type": "CosineAnnealingLR", "eta_min": 0.0, "by_epoch": False, "begin": warmup, "end": iters},
    ]
    interval = auto.choose_val_interval(iters)
    start = {"type": "SlicedInitHook", "views": auto.choose_sliced_views(machine)}
    optimizer = {"type": table["optimizer"].value} if "optimizer" in table else {}
    values: dict[str, Any] = {
        "model": model,
        **({"custom_hooks": [start]} if sliced else {}),
        "train_pipeline": training,
        "val_pipeline": validating,
        "train_dataloader": {
            "batch_size": batch,
            "num_workers": workers,
            **lasting,
            **pinned,
            **({"sampler": {"repeats": 3}} if augmentation == "recipe" else {}),
            "dataset": images.dataset("train", training),
        },
        "val_dataloader": validation,
        "test_dataloader": validation,
        "optim_wrapper": {
            "dtype": table["precision"].value,
            "optimizer": {**optimizer, "lr": float(table["lr"].value)},
        },
        "param_scheduler": schedule if warmup else schedule[1:],
        "auto_scale_lr": {"base_batch_size": total},
        "train_cfg": {"max_iters": iters, "val_interval": interval},
        "default_hooks": {
            "logger": {"interval": auto.choose_log_interval(iters)},
            "checkpoint": {"interval": auto.choose_checkpoint_interval(iters)},
            "online_eval": {"interval": interval},
        },
        "randomness": {"seed": request.seed},
    }
    return values


def train_pipeline(
    model: Mapping[str, Any], size: int, augmentation: str, cached: bool, mask_patch: int | None = None
) -> list[dict[str, Any]]:
    """Return the transforms of the training images.

    Args:
        model: Config of the model, which says whether an objective reads masks.
        size: Side of the images in pixels.
        augmentation: ``mild``, ``strong``, or ``recipe``, which also erases.
        cached: Keep the decoded images in memory.
        mask_patch: Side in pixels of the patches to mask, if an objective does.
    """
    strong = augmentation != "mild"
    crop = {"scale": size, "crop_ratio_range": (0.08 if strong else 0.4, 1.0), "interpolation": "bicubic"}
    load = [_CACHED, {"type": "RandomResizedCrop", **crop}] if cached else [{"type": "LoadRandomResizedCrop", **crop}]
    masked = "objectives" not in model or "patch" not in model["objectives"]
    return [
        *load,
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "TimmRandAugment", "policy": f"rand-m{9 if strong else 3}-mstd0.5-inc1"},
        {"type": "ToTensor", "dtype": "uint8"},
        *([{"type": "RandomErasing", "erase_prob": 0.25}] if augmentation == "recipe" else []),
        *([{"type": "UniformMask", "ratio": 0.5, "patch_size": mask_patch}] if masked else []),
        {"type": "PackInputs"},
    ]


def val_pipeline(size: int, cached: bool) -> list[dict[str, Any]]:
    """Return the transforms of the held-out images; arguments as for :func:`train_pipeline`."""
    return [
        _CACHED if cached else {"type": "LoadImage"},
        {"type": "ResizeEdge", "scale": round(size * 256 / 224), "interpolation": "bicubic"},
        {"type": "CenterCrop", "crop_size": size},
        {"type": "ToTensor"},
        {"type": "PackInputs"},
    ]


def card_facts(record: Any, images: RunImages, table: Mapping[str, Auto], total: int) -> dict[str, Any]:
    """Return what the model card can say before training; ``record`` is the teacher's."""
    facts = {
        "teacher_licence": record.licence,
        "teacher_hub_id": record.hub_id or "",
        "data": images.name,
        "images": images.train,
        "objectives": table["objectives"].value.split(", "),
        "training": {
            "batch size": total,
            "peak learning rate": table["lr"].value,
            "initial weights": table["init"].value,
            "held-out images": images.held_out,
        },
    }
    return {name: value for name, value in facts.items() if value}
