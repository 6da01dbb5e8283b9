"""The image projection in the files of several libraries."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from proteus.checkpoints import CheckpointError
from proteus.evaluation.text import read_projection

WEIGHT = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
BIAS = torch.arange(3.0)
TOKENS = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))


def test_all_layouts_project_alike(tmp_path: Path) -> None:
    path = tmp_path / "clip.safetensors"
    for state in (
        {"visual.proj": WEIGHT.T.contiguous()},
        {"visual_projection.weight": WEIGHT},
        {"visual.head.proj.weight": WEIGHT},
        {"head.weight": WEIGHT, "head.bias": 0 * BIAS},
    ):
        save_file({**state, "logit_scale": torch.ones(1)}, path)
        torch.testing.assert_close(read_projection(path)(TOKENS), TOKENS @ WEIGHT.T)
    save_file({"head.weight": WEIGHT, "head.bias": BIAS}, path)
    torch.testing.assert_close(read_projection(path)(TOKENS), TOKENS @ WEIGHT.T + BIAS)


def test_weights_without_a_projection_are_refused(tmp_path: Path) -> None:
    save_file({"visual.trunk.norm.weight": BIAS}, tmp_path / "siglip.safetensors")
    with pytest.raises(CheckpointError, match=r"has no image projection .* a SigLIP pools into the space of its texts"):
        read_projection(tmp_path / "siglip.safetensors")
