from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from proteus.checkpoints import CheckpointError
from proteus.models import TimmBackbone
from proteus.structures import DataError, Features

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


LEVELS: dict[str, Any] = {"arch": "test_resnet", "levels": (-2, -1)}
# Masks of a grid of 2x2, the second and third patch of the first image, and the first of the second.
MASKS = torch.tensor([[False, True, True, False], [True, False, False, False]])


def test_levels_are_resampled_to_the_finest_and_concatenated() -> None:
    model = made(LEVELS)
    output, maps = model.model.forward_intermediates(images(), indices=[3, 4])
    found = model(images())
    assert (model.feature_levels, model.grid, model.embed_dim, model.patch_dim) == ((3, 4), (4, 4), 96, 192 + 96)
    torch.testing.assert_close(found.maps[:, :192], maps[0])
    coarse = nn.functional.interpolate(maps[1], size=(4, 4), mode="bilinear")
    torch.testing.assert_close(found.maps[:, 192:], coarse)
    torch.testing.assert_close(found.cls, output.mean(dim=(2, 3)))
    assert "levels" not in model.timm_args


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "test_resnet", "levels": (5,)}, r"levels=\[5\] of test_resnet, which has 5 levels \(0 to 4\)"),
        ({"arch": "test_resnet", "levels": 3}, r"levels=3 of test_resnet: write numbers of its 5 levels \(0 to 4\)"),
        ({"arch": "test_resnet", "levels": ("4",)}, r"levels=\('4',\) of test_resnet: write numbers"),
        ({"arch": "test_resnet", "levels": ()}, r"levels=\(\) of test_resnet: write numbers"),
        ({"arch": "test_resnet", "mask_colour": "grey"}, r"mask_colour='grey': choose from: None, 'mean', 'learnt'"),
    ],
    ids=str,
)
def test_wrong_levels_and_colours_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(options)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("coat_lite_tiny", r"coat_lite_tiny: 50 patch tokens do not form a grid.*write levels=\(-1,\)"),
        ("pit_ti_224", r"pit_ti_224 gives its cls token and no patches; write levels=\(-1,\)"),
        ("efficientvim_m1", r"efficientvim_m1 gives list: neither a map nor tokens; write levels=\(-1,\)"),
    ],
)
def test_models_without_a_last_map_need_levels(arch: str, message: str) -> None:
    pixels = torch.empty(1, 3, 224, 224, device="meta")
    with torch.device("meta"):
        with pytest.raises(ValueError, match=message):
            TimmBackbone(arch)(pixels)
        found = TimmBackbone(arch, levels=(-1,)).eval()(pixels)
    assert found.grid in ((7, 7), (4, 4))


def assert_equal(found: Features, expected: Features) -> None:
    torch.testing.assert_close((found.cls, found.patches), (expected.cls, expected.patches))
    assert found.grid == expected.grid


@pytest.mark.parametrize("colour", ["mean", "learnt"])
def test_masked_patches_have_one_colour(colour: str) -> None:
    model = made({"arch": "test_resnet", "mask_colour": colour})
    painted = images().clone()
    for image, patch in ((0, 1), (0, 2), (1, 0)):
        rows, columns = (slice(32 * place, 32 * place + 32) for place in divmod(patch, 2))
        value = images()[image].mean(dim=(1, 2)) if model.learnt_colour is None else model.learnt_colour.flatten()
        painted[image, :, rows, columns] = value.detach()[:, None, None]
    assert_equal(model(images(), MASKS), model(painted))
    assert "learnt_colour" not in model.timm_state()


def test_masks_of_another_grid_are_refused_and_so_are_masks_without_a_colour() -> None:
    with pytest.raises(DataError, match=r"masks of 16 values for images of 4 patches: draw one for each"):
        made({"arch": "test_resnet", "mask_colour": "mean"})(images(), torch.zeros(2, 16, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"test_resnet built without mask_colour: write mask_colour='mean'"):
        made({"arch": "test_resnet"})(images(), MASKS)


@pytest.mark.parametrize("options", [{"arch": "test_resnet"}, DINOV3], ids=["batch norm", "one pass"])
def test_clean_and_masked_images_are_those_of_two_passes(options: dict[str, Any]) -> None:
    model = made({**options, "mask_colour": "mean"})
    masks = MASKS[:1] if "embed_dim" not in options else MASKS[:1].repeat_interleave(4, dim=1)
    clean, masked = model.clean_and_masked(images(), masks)
    assert_equal(clean, model(images()))
    assert_equal(masked, model(images()[:1], masks))


def test_masked_images_leave_the_running_statistics_of_batch_norm() -> None:
    found = {}
    for masked in (False, True):
        model = made({"arch": "test_resnet", "mask_colour": "mean"}).train()
        clean = model.clean_and_masked(images(), MASKS)[0] if masked else model(images())
        found[masked] = clean.cls, {key: value for key, value in model.state_dict().items() if "running" in key}
    torch.testing.assert_close(found[True], found[False])
    assert {norm.momentum for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)} == {0.1}


def test_a_training_checkpoint_with_a_learnt_colour_loads(tmp_path: Path) -> None:
    model = made({"arch": "test_resnet", "mask_colour": "learnt"})
    state = {f"student.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "iter_1.pth")
    again = TimmBackbone("test_resnet", img_size=64, checkpoint=tmp_path / "iter_1.pth").eval()
    torch.testing.assert_close(again(images()).maps, model(images()).maps)


@pytest.mark.parametrize(
    ("options", "unused"),
    [
        ({"arch": "mobilenetv4_conv_small_035"}, "conv_head"),
        ({"arch": "vit_pe_core_tiny_patch16_384", "embed_dim": 48, "depth": 1, "num_heads": 3}, "attn_pool"),
    ],
    ids=["wide head", "attention pooling"],
)
def test_parameters_without_a_gradient_are_frozen(options: dict[str, Any], unused: str) -> None:
    model = made(options).train()
    found = model(images())
    (found.cls.sum() + found.patches.sum()).backward()
    for name, parameter in model.model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad == (not name.startswith((unused, "norm_head")))


BEIT: dict[str, Any] = {"arch": "beit_base_patch16_224", "embed_dim": 48, "depth": 2, "num_heads": 3}
HYBRID: dict[str, Any] = {"arch": "vit_small_resnet26d_224", "embed_dim": 48, "depth": 1, "num_heads": 3}


@pytest.mark.parametrize("options", [DINOV3, EVA02, BEIT], ids=lambda value: value["arch"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "drop path"])
def test_hidden_states_are_what_the_blocks_return_in_one_pass(options: dict[str, Any], training: bool) -> None:
    model = made(options, 56 if options is EVA02 else 64, drop_path_rate=0.5).train(training)
    pixels, grid, streams = images(model.img_size), model.grid, []
    for block in model.model.blocks:
        block.register_forward_hook(lambda *args: streams.append(args[-1]))
    torch.manual_seed(1)
    found, masked, hidden = model.encode_with_hidden_states(pixels)
    assert masked is None
    assert len(hidden) == len(streams) == 2
    for state, stream in zip(hidden, streams, strict=True):
        assert (state.grid, state.patches.shape[1]) == (grid, 16)
        assert torch.equal(state.cls, stream[:, 0])
        assert torch.equal(state.patches, stream[:, model.model.num_prefix_tokens :])
    torch.manual_seed(1)
    expected = model(pixels)
    assert torch.equal(found.cls, expected.cls)
    assert torch.equal(found.patches, expected.patches)


@pytest.mark.parametrize("options", [DINOV3, HYBRID], ids=["one pass", "batch norm"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_hidden_states_with_masks_are_those_of_the_clean_images(options: dict[str, Any], training: bool) -> None:
    found = []
    for hidden_states in (False, True):
        model = made({**options, "mask_colour": "learnt"}).train(training)
        masks = torch.zeros(1, math.prod(model.grid), dtype=torch.bool)
        masks[0, 1] = True
        if hidden_states:
            clean, masked, hidden = model.encode_with_hidden_states(images(), masks)
            assert masked is not None
            for own, alone in zip(hidden, model.encode_with_hidden_states(images())[2], strict=True):
                assert_equal(own, alone)
        else:
            clean, masked = model.clean_and_masked(images(), masks)
            model(images())  # the other model has a second pass as well, which moves the statistics
        found.append((clean, masked, {key: value for key, value in model.state_dict().items() if "running" in key}))
    for own, expected in zip(found[1][:2], found[0][:2], strict=True):
        assert_equal(own, expected)
    torch.testing.assert_close(found[1][2], found[0][2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "test_resnet"}, "test_resnet has none, as its blocks do not all pass on .*: take a type='ViT' or"),
        (SWIN, "swin_tiny_patch4_window7_224 has none, as its blocks do not all pass on the same tokens"),
        (SIGLIP, "vit_base_patch16_siglip_224 has none, as its blocks .*, a cls token among them"),
        ({"arch": "xcit_nano_12_p16_224", "depth": 1}, "xcit_nano_12_p16_224 has none"),
        ({**DINOV3, "levels": (-2, -1)}, r"levels=\[0, 1\] has none: write levels=None"),
    ],
    ids=lambda value: value["arch"] if isinstance(value, dict) else None,
)
def test_models_without_hidden_states_say_so_in_one_line(options: dict[str, Any], message: str) -> None:
    model = made(options, 56 if options is SWIN else 64)
    with pytest.raises(ValueError, match=message) as refused:
        model.encode_with_hidden_states(images(model.img_size))
    assert "\n" not in str(refused.value)


def test_masks_of_hidden_states_are_checked() -> None:
    none = made({**DINOV3, "mask_colour": "mean"}).encode_with_hidden_states(images(), torch.zeros(0, 16).bool())[1]
    assert none is not None
    assert none.patches.shape == (0, 16, 48)
    with pytest.raises(DataError, match="masks of 4 values for images of 16 patches"):
        made({**DINOV3, "mask_colour": "mean"}).encode_with_hidden_states(images(), MASKS)
    with pytest.raises(ValueError, match="built without mask_colour: write mask_colour='mean'"):
        made(DINOV3).encode_with_hidden_states(images(), MASKS)


def test_weights_of_a_layer_with_several_names_are_kept() -> None:
    model = TimmBackbone("coat_tiny", img_size=64, levels=(-1,), embed_dims=(8, 8, 8, 8), serial_depths=(1, 1, 1, 1))
    assert model.grid == (2, 2)
    assert not any(value.is_meta for value in model.state_dict().values())
    assert model.eval()(images()).grid == (2, 2)
