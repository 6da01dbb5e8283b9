"""Two tiny teachers of other sizes, a student, and batches for them."""

from __future__ import annotations

from typing import Any

import torch
from data_samples import data_samples

SIZE = dict(type="ViT", arch="tiny", img_size=56, patch_size=14, depth=1, interpolate_offset=0.0)
FIRST = dict(type="Teacher", backbone=dict(**SIZE, embed_dim=32, num_heads=4))
# Another width, size, patch and statistics; 4 x 4 patches as well.
LARGER = dict(type="ViT", arch="tiny", img_size=64, patch_size=16, depth=1, embed_dim=12, num_heads=3)
SECOND = dict(type="Teacher", img_size=64, mean=(0.5,) * 3, std=(0.5,) * 3, backbone=LARGER)
STUDENT = dict(**SIZE, embed_dim=24, num_heads=3, mask_token=True)
OBJECTIVES: dict[str, Any] = dict(
    token=dict(type="TokenObjective"),
    feature=dict(type="FeatureObjective", cls_term="token"),
    patch=dict(type="PatchObjective"),
)


def fill(model: Any) -> Any:
    model.student.mask_token.data.normal_(generator=torch.Generator().manual_seed(0))
    return model


def batch(step: int, images: slice = slice(None)) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.rand(16, 3, 56, 56, generator=generator)[images]
    masks = (torch.rand(16, 16, generator=generator).argsort(1) < 8)[images]
    indices = masks.flatten().nonzero().squeeze(1)
    return {
        "inputs": inputs,
        "masks": masks,
        "mask_indices": indices,
        "data_samples": data_samples(*[{}] * len(inputs)),
    }
