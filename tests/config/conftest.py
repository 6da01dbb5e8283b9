"""Small registered parts to name in configs; each test unregisters them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.registry import Registry
from torch import nn

from proteus.registry import DATASETS, FUNCTIONS, METRICS, MODELS, TRANSFORMS


class ToyHead(nn.Module):
    def __init__(self, in_dim: int, out_dim: int, bias: bool = True) -> None:
        super().__init__()


class ToyObjective(nn.Module):
    def __init__(self, loss: dict[str, Any], head: dict[str, Any] | None = None, weight: float = 1.0) -> None:
        super().__init__()
        self.head = MODELS.build(head or {}, default_args={"in_dim": 1, "out_dim": 2})


class ToyLoss(nn.Module):
    def __init__(self, beta: float, reduction: str = "mean") -> None:
        super().__init__()


class ToyDistiller(nn.Module):
    def __init__(
        self, teacher: dict[str, Any], objectives: dict[str, Any], data_preprocessor: dict[str, Any] | None = None
    ) -> None:
        super().__init__()


class ToyTeacher(nn.Module):
    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__()
        self.options = kwargs


class ToyFolder:
    def __init__(self, root: str, pipeline: list[Any] | None = None) -> None: ...


class ToyMerge:
    def __init__(self, datasets: list[Any]) -> None: ...


class ToyCrop:
    def __init__(self, size: int, scale: tuple[float, float] = (0.08, 1.0)) -> None: ...


class ToyChoice:
    def __init__(self, transforms: list[Any]) -> None: ...


class ToyScore:
    def __init__(self, topk: int = 1) -> None: ...


def toy_collate(batch: list[Any], masks: int = 1) -> list[Any]:
    return batch


PARTS: list[tuple[Registry, Any]] = [
    *((MODELS, part) for part in (ToyHead, ToyObjective, ToyLoss, ToyDistiller, ToyTeacher)),
    *((DATASETS, part) for part in (ToyFolder, ToyMerge)),
    *((TRANSFORMS, part) for part in (ToyCrop, ToyChoice)),
    (METRICS, ToyScore),
    (FUNCTIONS, toy_collate),
]


@pytest.fixture
def toys() -> Iterator[None]:
    for registry, part in PARTS:
        registry.register_module(module=part)
    yield
    for registry, part in PARTS:
        registry.module_dict.pop(part.__name__)


def _good() -> dict[str, Any]:
    folder = {"type": "ToyFolder", "root": "data/toy", "pipeline": [{"type": "ToyCrop", "size": 8}]}
    sampler = {"type": "DefaultSampler", "shuffle": False}
    return {
        "default_scope": "proteus",
        "data_root": "data/toy",
        "model": {
            "type": "ToyDistiller",
            "teacher": {"type": "ToyTeacher", "name": "s", "anything": 1},
            "objectives": {
                "token": {
                    "type": "ToyObjective",
                    "weight": 1.0,
                    "loss": {"type": "ToyLoss", "beta": 0.1},
                    "head": {"type": "ToyHead", "bias": False},
                },
                "patch": {"type": "ToyObjective", "loss": {"type": "ToyLoss", "beta": 0.1}},
            },
        },
        "train_dataloader": {
            "batch_size": 2,
            "num_workers": 0,
            "sampler": {"type": "InfiniteSampler", "shuffle": True},
            "dataset": {"type": "ToyMerge", "datasets": [folder]},
            "collate_fn": {"type": "toy_collate", "masks": 2},
        },
        "train_cfg": {"by_epoch": False, "max_iters": 10},
        "optim_wrapper": {
            "type": "AmpOptimWrapper",
            "optimizer": {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.05},
            "clip_grad": {"max_norm": 3.0, "type": "norm"},
            "paramwise_cfg": {"norm_decay_mult": 0.0, "custom_keys": {"pos_embed": {"decay_mult": 0.0}}},
        },
        "param_scheduler": [
            {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "end": 5},
            {"type": "CosineAnnealingLR", "T_max": 5, "convert_to_iter_based": True},
        ],
        "val_dataloader": {"batch_size": 1, "dataset": folder, "sampler": sampler},
        "val_cfg": {},
        "val_evaluator": [{"type": "ToyScore", "topk": 5}],
        "default_hooks": {"checkpoint": {"type": "CheckpointHook", "interval": 5}, "timer": None},
        "custom_hooks": [{"type": "EMAHook", "momentum": 0.1, "priority": "HIGH"}],
        "visualizer": {"type": "Visualizer", "vis_backends": [{"type": "LocalVisBackend"}]},
        "log_processor": {"by_epoch": False, "window_size": 5},
        "env_cfg": {"cudnn_benchmark": True, "mp_cfg": {"mp_start_method": "fork"}, "dist_cfg": {"backend": "gloo"}},
        "randomness": {"seed": 0},
        "auto_scale_lr": {"enable": False, "base_batch_size": 16},
        "train_pipeline": [{"type": "ToyCrop", "size": 8}],
    }


@pytest.fixture
def good(toys: None) -> dict[str, Any]:
    return Config(_good()).to_dict()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str = "config.py", head: str = "", **values: Any) -> Path:
        path = tmp_path / name
        path.write_text("\n".join([head, *(f"{key} = {value!r}" for key, value in values.items())]) + "\n")
        return path

    return write
