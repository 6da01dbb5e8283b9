from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from proteus.checkpoints import CheckpointError
from proteus.models import TimmBackbone

# Small members of their families, with random weights.
CONVNEXT: dict[str, Any] = {"arch": "convnext_tiny.dinov3_lvd1689m", "depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
DINOV3: dict[str, Any] = {"arch": "vit_small_patch16_dinov3", "embed_dim": 48, "depth": 2, "num_heads": 3}
SIGLIP: dict[str, Any] = {"arch": "vit_base_patch16_siglip_224", "embed_dim": 48, "depth": 2, "num_heads": 3}
EVA02: dict[str, Any] = {"arch": "eva02_tiny_patch14_224", "embed_dim": 48, "depth": 2, "num_heads": 3}
SWIN: dict[str, Any] = {"arch": "swin_tiny_patch4_window7_224", "embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2)}


def images(size: int = 64, width: int | None = None) -> Tensor:
    return torch.randn(2, 3, size, width or size, generator=torch.Generator().manual_seed(1))


def made(options: dict[str, Any], size: int = 64, **more: Any) -> TimmBackbone:
    torch.manual_seed(0)
    model = TimmBackbone(**options, img_size=size, **more)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize(
    ("options", "size", "width", "grid"),
    [
        ({"arch": "test_resnet"}, 64, 96, (2, 2)),
        (CONVNEXT, 96, 32, (3, 3)),
        (DINOV3, 64, 48, (4, 4)),
        (SIGLIP, 64, 48, (4, 4)),
        (EVA02, 56, 48, (4, 4)),
        (SWIN, 56, 16, (7, 7)),
        ({"arch": "mobilenetv3_small_050"}, 64, 288, (2, 2)),
        ({"arch": "deit_tiny_distilled_patch16_224", "depth": 1}, 64, 192, (4, 4)),
    ],
    ids=lambda value: value["arch"] if isinstance(value, dict) else None,
)
def test_any_family_gives_features(options: dict[str, Any], size: int, width: int, grid: tuple[int, int]) -> None:
    model = made(options, size)
    assert (model.embed_dim, model.grid, model.img_size) == (width, grid, size)
    found = model(images(size))
    assert found.grid == grid
    assert found.cls.shape == (2, width)
    assert found.patches.shape == (2, grid[0] * grid[1], width)
    assert found.cls.isfinite().all()


def test_of_a_cnn_cls_is_the_pooled_map_and_patches_are_the_map() -> None:
    model = made({"arch": "test_resnet"})
    theirs = model.model
    feature_map = theirs.forward_features(images(64, 96))
    found = model(images(64, 96))
    assert found.grid == (2, 3)
    torch.testing.assert_close(found.maps, feature_map)
    torch.testing.assert_close(found.cls, feature_map.mean(dim=(2, 3)))


def test_of_a_convnext_cls_is_normed_as_timm_does() -> None:
    model = made(CONVNEXT)
    found = model(images())
    torch.testing.assert_close(found.cls, model.model(images()))
    torch.testing.assert_close(found.maps, model.model.forward_features(images()))


def test_of_dinov3_cls_and_patches_are_those_after_the_last_norm() -> None:
    model = made(DINOV3)
    (patches, prefix) = model.model.forward_intermediates(
        images(), indices=1, norm=True, return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
    )[0]
    found = model(images())
    assert prefix.shape[1] == 5  # cls and four registers
    torch.testing.assert_close(found.cls, prefix[:, 0])
    torch.testing.assert_close(found.patches, patches)


@pytest.mark.parametrize("options", [SIGLIP, EVA02], ids=["attention pool", "mean and norm"])
def test_without_a_normed_cls_token_cls_is_what_timms_head_pools(options: dict[str, Any]) -> None:
    model = made(options, 56 if options is EVA02 else 64)
    pixels = images(model.img_size)
    torch.testing.assert_close(model(pixels).cls, model.model(pixels))


def test_channels_last_maps_are_turned() -> None:
    model = made(SWIN, 56)
    pixels = images(56)
    torch.testing.assert_close(model(pixels).maps, model.model.forward_features(pixels).permute(0, 3, 1, 2))


@pytest.mark.parametrize("options", [SIGLIP, DINOV3, CONVNEXT], ids=["siglip", "dinov3", "convnext"])
def test_checkpointed_activations_give_the_same_gradients(options: dict[str, Any]) -> None:
    found = []
    for checkpointing in (False, True):
        model = made({**options, "grad_checkpointing": checkpointing}).train()
        calls: list[int] = []
        linear = next(module for module in model.modules() if isinstance(module, nn.Linear))
        linear.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        model(images(model.img_size)).patches.square().mean().backward()
        assert len(calls) == (2 if checkpointing else 1)
        assert "grad_checkpointing" not in model.timm_args
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)


def test_a_model_that_cannot_checkpoint_is_refused() -> None:
    with pytest.raises(ValueError, match=r"timm's darknet17 cannot checkpoint .*micro_batches=2"):
        made({"arch": "darknet17", "grad_checkpointing": True})


def test_asking_for_the_grid_changes_nothing() -> None:
    model = made({"arch": "test_resnet"}).train()
    model.model.layer1.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert model.grid_for(96) == (3, 3)
    assert model.training
    assert model.model.bn1.training
    assert not model.model.layer1.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_asking_a_compiled_backbone_for_its_grid_compiles_nothing() -> None:
    model = made({"arch": "test_resnet"})
    compiled: list[str] = []
    model.compile(backend=lambda graph, inputs: compiled.append("graph") or graph.forward)
    assert (model.grid, model.embed_dim) == ((2, 2), 96)
    assert not compiled
    assert model(images()).grid == (2, 2)
    assert compiled


@pytest.mark.parametrize(
    ("arch", "prefix"),
    [("test_resnet", ""), ("test_convnext", "student.model."), ("test_resnet", "module.student.model.")],
)
def test_timms_own_weights_load_and_the_classifier_is_left(arch: str, prefix: str, tmp_path: Path) -> None:
    theirs = timm.create_model(arch, num_classes=7).eval()
    torch.save({f"{prefix}{key}": value for key, value in theirs.state_dict().items()}, tmp_path / "timm.pth")
    model = TimmBackbone(arch, checkpoint=tmp_path / "timm.pth").eval()
    torch.testing.assert_close(model(images()).maps, theirs.forward_features(images()))
    rebuilt = timm.create_model(**model.timm_args, num_classes=0)
    rebuilt.load_state_dict(model.timm_state())


def test_another_models_weights_are_refused(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(CheckpointError, match=r"(?s)resnet\.pth does not fit the model.*missing in the file"):
        TimmBackbone("test_convnext", checkpoint=tmp_path / "resnet.pth")


def test_what_timm_does_not_have_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"arch='convnext_tinny' is not a timm model; nearest: convnext_tiny,"):
        TimmBackbone("convnext_tinny")
    with pytest.raises(ValueError, match=r"arch='test_resnet' does not take these options: .*wings"):
        TimmBackbone("test_resnet", wings=2)


def test_on_the_meta_device_it_gives_shapes() -> None:
    with torch.device("meta"):
        model = TimmBackbone("regnety_160")
        assert (model.embed_dim, model.grid) == (3024, (7, 7))
        assert model(torch.empty(1, 3, 64, 64)).patches.is_meta


@torch.no_grad()
def test_positions_of_another_grid_are_resampled_as_timm_does(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"embed_dim": 48, "depth": 1, "num_heads": 3}
    original = timm.create_model("vit_base_patch16_siglip_224", num_classes=0, img_size=64, **sizes)
    torch.save(original.state_dict(), tmp_path / "siglip.pth")
    backbone = TimmBackbone("vit_base_patch16_siglip_224", img_size=96, checkpoint=tmp_path / "siglip.pth", **sizes)
    original.set_input_size((96, 96))
    images = torch.randn(1, 3, 96, 96)
    torch.testing.assert_close(backbone.eval()(images).patches, original.eval().forward_features(images))


def test_patches_of_another_size_are_refused(tmp_path: Path) -> None:
    original = timm.create_model("vit_base_patch16_siglip_224", num_classes=0, img_size=64, embed_dim=48, depth=1)
    torch.save(original.state_dict(), tmp_path / "siglip.pth")
    with pytest.raises(CheckpointError, match=r"patch_embed.proj.weight: file .*16, 16\), model .*32, 32\)"):
        TimmBackbone(
            "vit_base_patch32_siglip_256", img_size=64, checkpoint=tmp_path / "siglip.pth", embed_dim=48, depth=1
        )
