"""Differences of features from other libraries at sizes that were not trained; docs/use_student.md has the numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from proteus.checkpoints.packaged_onnx import read_packaged_vit
from proteus.models import ViT

pytestmark = pytest.mark.slow


def test_positions_are_resampled_differently_and_agree_at_the_trained_size(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from proteus.datasets.packaged import packaged_teacher

    try:
        state = read_packaged_vit(packaged_teacher())
    except (ImportError, FileNotFoundError) as error:
        pytest.skip(str(error))
    save_file(state, tmp_path / "vit.safetensors")
    ours = ViT("small", img_size=224, checkpoint=tmp_path / "vit.safetensors").eval()
    plain = ViT("small", img_size=224, interpolate_offset=0.0).eval()
    plain.vit.load_state_dict(ours.timm_state())
    theirs = timm.create_model(**ours.timm_args, num_classes=0, dynamic_img_size=True).eval()
    theirs.load_state_dict(ours.timm_state())
    generator = torch.Generator().manual_seed(0)
    for size, most in ((224, 1e-5), (336, 0.02), (518, 0.02)):
        noise = torch.randn(1, 3, 16, 16, generator=generator)
        images = torch.nn.functional.interpolate(noise, size=(size, size), mode="bicubic")
        with torch.inference_mode():
            found = ours(images).patches
            others = {"timm": theirs.forward_features(images)[:, 1:], "plain resize": plain(images).patches}
        for name, other in others.items():
            difference = float((found - other).norm() / other.norm())
            print(f"{size} px, {name}: {difference:.2%}")
            assert difference < most
            assert (difference > 1e-3) == (size != 224)
