from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from proteus.checkpoints import CheckpointError
from proteus.models import AdaptedBackbone, ViT, build_backbone

SMALL = {"embed_dims": 48, "num_layers": 2, "num_heads": 3, "feedforward_channels": 96}
VIT: dict[str, Any] = {"type": "mmpretrain.VisionTransformer", "arch": SMALL, "img_size": 56, "patch_size": 14}
RESNET: dict[str, Any] = {"type": "mmpretrain.ResNet", "depth": 18, "base_channels": 8}
RESNET |= {"stem_channels": 8, "expansion": 1}


@pytest.fixture(autouse=True)
def mmpretrain() -> None:
    pytest.importorskip("mmpretrain", reason="pip install onedl-mmcv onedl-mmpretrain")


def images(size: int = 64, width: int | None = None) -> Tensor:
    return torch.randn(2, 3, size, width or size, generator=torch.Generator().manual_seed(1))


def test_a_resnets_map_becomes_features() -> None:
    model = build_backbone(RESNET).eval()
    assert isinstance(model, AdaptedBackbone)
    (last,) = model.guest(images(64, 96))
    found = model(images(64, 96))
    assert (model.img_size, model.embed_dim, model.grid_for(224)) == (None, 64, (7, 7))
    assert found.grid == (2, 3)
    torch.testing.assert_close(found.maps, last)
    torch.testing.assert_close(found.cls, last.mean(dim=(2, 3)))


def test_a_vits_tokens_become_features() -> None:
    model = build_backbone({**VIT, "out_type": "raw"}).eval()
    (tokens,) = model.guest(images(56))
    found = model(images(56))
    assert (model.img_size, model.embed_dim, model.grid_for(56)) == (56, 48, (4, 4))
    torch.testing.assert_close(found.cls, tokens[:, 0])
    torch.testing.assert_close(found.patches, tokens[:, 1:])
    assert model(images(28, 112)).grid == (2, 8)


def test_of_several_levels_the_last_is_taken() -> None:
    model = build_backbone({**RESNET, "out_indices": (1, 3)})
    assert model(images()).grid == (2, 2)


def test_layers_of_the_guests_own_scope_are_found() -> None:
    quick = {"act_cfg": {"type": "QuickGELU"}}
    model = build_backbone({**VIT, "out_type": "raw", "layer_cfgs": quick})
    assert type(model.guest.layers[0].ffn.layers[0][1]).__name__ == "QuickGELU"


def test_what_gives_no_patches_is_refused_with_what_to_write() -> None:
    with pytest.raises(ValueError, match=r"mmpretrain\.VisionTransformer returns a tensor \(1, 48\).*out_type='raw'"):
        build_backbone(VIT)


def test_it_starts_as_the_guest_initialises_itself() -> None:
    model = build_backbone({**RESNET, "init_cfg": {"type": "Constant", "layer": "Conv2d", "val": 0.25}})
    assert (model.guest.conv1.weight == 0.25).all()


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.backbone."])
def test_its_init_cfg_names_weights_that_are_read_safely_and_strictly(prefix: str, tmp_path: Path) -> None:
    state = {f"{prefix}{key}": value for key, value in build_backbone(RESNET).guest.state_dict().items()}
    head = {"head.fc.weight": torch.zeros(10, 64)} if prefix else {}
    torch.save({"state_dict": {**state, **head}, "meta": {}}, tmp_path / "resnet.pth")
    pretrained = {"type": "Pretrained", "checkpoint": str(tmp_path / "resnet.pth")}
    found = build_backbone({**RESNET, "init_cfg": pretrained}).guest.state_dict()
    assert all(torch.equal(found[key.removeprefix(prefix)], value) for key, value in state.items())
    with pytest.raises(CheckpointError, match=r"resnet\.pth does not fit"):
        build_backbone({**RESNET, "depth": 34, "init_cfg": pretrained})


def test_on_the_meta_device_it_gives_shapes() -> None:
    with torch.device("meta"):
        model = build_backbone({"type": "mmpretrain.ConvNeXt", "arch": "atto", "gap_before_final_norm": False})
        assert model(torch.empty(1, 3, 64, 64)).patches.shape == (1, 4, 320)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_our_own_are_built_as_they_are() -> None:
    assert isinstance(build_backbone({"type": "ViT", "arch": "tiny", "depth": 1}), ViT)
