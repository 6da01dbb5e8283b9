"""Compare a student with its teacher on held-out photographs, without labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from proteus.config.check_consistency import crop_size
from proteus.datasets import seeded
from proteus.evaluation import patch_retrieval
from proteus.models.backbones import locate_backbone
from proteus.registry import DATASETS, MODELS
from proteus.structures import Features

# Held-out photographs are cropped to squares of this side before evaluation.
SIDE = 320
MAX_PHOTOGRAPHS = 200


def load_photographs(cfg: Config) -> Tensor:
    """Return at most 200 held-out photographs, ``(N, 3, 320, 320)`` in [0, 1]."""
    config = dict(cfg.val_dataloader.dataset)
    config["pipeline"] = [
        {"type": "LoadImage", "short_side": SIDE},
        {"type": "ResizeEdge", "scale": SIDE},
        {"type": "CenterCrop", "crop_size": SIDE},
        {"type": "ToTensor", "dtype": "float32"},
        {"type": "PackInputs"},
    ]
    # No runner has set it where the training ran in other processes, or at another time.
    init_default_scope(cfg.get("default_scope", "proteus"))
    dataset = DATASETS.build(config)
    return torch.stack([dataset[index]["inputs"] for index in range(min(len(dataset), MAX_PHOTOGRAPHS))])


def encoder(network: Callable[[Tensor], Any], preprocessor: nn.Module) -> Callable[[Tensor], Features]:
    """Return a function from images in [0, 1] to the features of a network, on the CPU."""

    def encode(images: Tensor) -> Features:
        with torch.no_grad():
            features: Features = network(preprocessor({"inputs": images})["inputs"])
        return Features(features.cls.cpu(), features.patches.cpu(), features.grid)

    return encode


def compare_retrieval(cfg: Config, student: str | Path, photographs: Tensor) -> dict[str, float]:
    """Compute the patch retrieval of a student and of the teacher of its config.

    Args:
        cfg: Config of the run.
        student: The student's exported weights.
        photographs: ``(N, 3, H, W)`` in [0, 1].

    Returns:
        ``patch_retrieval``, ``teacher_patch_retrieval`` and ``chance_patch_retrieval``.
    """
    # A CNN of mmpretrain takes any size, and its config names none.
    size = int(cfg.model.student.get("img_size") or crop_size(cfg) or SIDE)
    device = "cuda" if get_device() == "cuda" else "cpu"  # that of the training, with or without its GPUs
    model = MODELS.build(cfg.model).to(device)  # moves its teacher, which sees images as in training
    networks = {"": locate_backbone(str(student), img_size=size).build().to(device), "teacher_": model.teacher}
    scores = {"chance_patch_retrieval": 1 / len(photographs)}
    for name, network in networks.items():
        with seeded(0):
            encode = encoder(network, model.data_preprocessor)
            scores[f"{name}patch_retrieval"] = patch_retrieval(encode, photographs, size)
    return scores
