"""A user's own parts, in a module that the package knows nothing of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from runs import log_lines, trained

MODULE = """
import torch
from torch import nn

from proteus.registry import MODELS, TRANSFORMS


@MODELS.register_module()
class LogCosh(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale

    def forward(self, prediction, target):
        return self.scale * torch.log(torch.cosh(prediction - target)).mean()


@TRANSFORMS.register_module()
class Checkerboard:
    def __init__(self, patch_size):
        self.patch_size = patch_size

    def __call__(self, results):
        height, width = (side // self.patch_size for side in results["img"].shape[-2:])
        rows, columns = torch.arange(height)[:, None], torch.arange(width)
        results["mask"] = ((rows + columns) % 2 == 0).flatten()
        return results
"""
CONFIG = """
custom_imports = dict(imports=["their_method.parts"])
model["objectives"] = dict(patch=dict(weight=1000.0, loss=dict(_delete_=True, type="LogCosh", scale=2.0)))
train_pipeline[5] = dict(type="Checkerboard", patch_size=14)
train_cfg.update(max_iters=4)
"""


@pytest.mark.slow
def test_a_loss_and_a_mask_of_ones_own(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "theirs" / "their_method"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "parts.py").write_text(MODULE)
    path = tmp_path / "theirs.py"
    path.write_text(config.read_text() + CONFIG)
    output = trained("train.py", path, "--work-dir", tmp_path / "run", path=tmp_path / "theirs")
    losses = [float(re.search(r"loss_patch: ([\d.]+)", line)[1]) for line in log_lines(output)]
    assert len(losses) == 4
    assert 100 < losses[-1] < losses[0]
