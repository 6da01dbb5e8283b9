"""A distiller of a few thousand parameters."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from data_samples import data_samples

from proteus.models import Distiller

BuildDistiller = Callable[..., Distiller]


def _objectives() -> dict[str, Any]:
    return {
        "token": dict(type="TokenObjective"),
        "feature": dict(type="FeatureObjective", cls_term="token"),
        "patch": dict(type="PatchObjective"),
    }


@pytest.fixture
def distiller() -> BuildDistiller:
    """Build one from what differs: options of student, teacher and teacher's backbone, and the objectives."""

    def build(
        student: dict[str, Any] | None = None,
        teacher: dict[str, Any] | None = None,
        backbone: dict[str, Any] | None = None,
        **objectives: dict[str, Any] | None,
    ) -> Distiller:
        torch.manual_seed(0)
        size = dict(type="ViT", arch="tiny", img_size=56, patch_size=14, depth=2, interpolate_offset=0.0)
        return Distiller(
            teacher={"type": "Teacher", "backbone": {**size, "embed_dim": 32, "num_heads": 4, **(backbone or {})}}
            | (teacher or {}),
            student={**size, "embed_dim": 24, "num_heads": 3, "mask_token": True, **(student or {})},
            objectives={**_objectives(), **objectives},
        )

    return build


@pytest.fixture
def batch() -> dict[str, Any]:
    """Four images as the collate function packs them; half of the 16 patches of the first two are masked."""
    generator = torch.Generator().manual_seed(1)
    masks = torch.rand(2, 16, generator=generator).argsort(1) < 8
    return {
        "inputs": torch.rand(4, 3, 56, 56, generator=generator),
        "masks": masks,
        "mask_indices": masks.flatten().nonzero().squeeze(1),
        "data_samples": data_samples(*({"img_path": f"{i}.jpg"} for i in range(4))),
    }
