from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from proteus.models import DenseViT, ViT

NARROW: dict[str, Any] = {"img_size": 56, "embed_dim": 24, "depth": 3, "num_heads": 3}


def tiny(**options: Any) -> ViT:
    torch.manual_seed(0)
    return ViT("tiny", **{**NARROW, **options}).eval()


def images(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_random_weights_are_those_of_dinov2() -> None:
    # Linear layers from a normal of 0.02 with zero bias, LayerScale 1, mask token 0, cls 1e-6
    # (docs/reproduction.md#student).
    torch.manual_seed(0)
    model = ViT("tiny", mask_token=True)
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert len(linears) == 12 * 4
    for linear in linears:
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.03)
        assert linear.weight.mean().abs() < 5e-4
        assert not linear.bias.any()
    vit = model.vit
    assert vit.pos_embed.shape == (1, 257, 192)
    assert vit.pos_embed.std().item() == pytest.approx(0.02, rel=0.03)
    assert vit.cls_token.std().item() == pytest.approx(1e-6, rel=0.2)
    assert model.mask_token is not None
    assert model.mask_token.shape == (1, 192)
    assert not model.mask_token.any()
    scales = [value for key, value in model.named_parameters() if key.endswith(".gamma")]
    assert len(scales) == 24
    assert all(torch.equal(scale, torch.ones(192)) for scale in scales)
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 25
    assert {norm.eps for norm in norms} == {1e-6}
    # torch's own start of a convolution: uniform within 1 / sqrt(3 * 14 * 14).
    bound = (3 * 14 * 14) ** -0.5
    assert vit.patch_embed.proj.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert vit.patch_embed.proj.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


@pytest.mark.parametrize(
    ("arch", "width", "depth", "heads"),
    [
        ("tiny", 192, 12, 3),
        ("small", 384, 12, 6),
        ("base", 768, 12, 12),
        ("large", 1024, 24, 16),
        ("giant", 1536, 40, 24),
    ],
)
def test_architectures_have_the_papers_sizes(arch: str, width: int, depth: int, heads: int) -> None:
    with torch.device("meta"):
        model = ViT(arch)
    assert (model.embed_dim, model.depth, model.vit.blocks[0].attn.num_heads) == (width, depth, heads)
    assert (model.grid, model.patch_size) == ((16, 16), 14)
    assert model.vit.blocks[0].attn.qkv.bias is not None
    if arch == "giant":  # docs/reproduction.md#teacher: SwiGLU, hidden 4096
        assert model.vit.blocks[0].mlp.fc1.out_features == 2 * 4096
    else:
        assert model.vit.blocks[0].mlp.fc1.out_features == 4 * width


def test_mmengines_init_weights_leaves_the_model_alone() -> None:
    model = tiny(mask_token=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.init_weights()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_mask_token_replaces_patches_before_positions_are_added() -> None:
    model = tiny(mask_token=True)
    assert model.mask_token is not None
    model.mask_token.data.normal_()
    model.vit.pos_embed.data.normal_()
    pixels = images(56, 56)
    masks = torch.rand(2, 16, generator=torch.Generator().manual_seed(2)) < 0.4
    vit = model.vit
    with torch.inference_mode():
        patches = vit.patch_embed(pixels).reshape(2, 16, 24)
        for image in range(2):
            for patch in range(16):
                if masks[image, patch]:
                    patches[image, patch] = model.mask_token[0]
        embedded = torch.cat([vit.cls_token.expand(2, 1, 24), patches], dim=1) + vit.pos_embed
        expected = vit.norm(vit.blocks(embedded))
        seen: list[Tensor] = []
        hook = vit.blocks[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
        found = model(pixels, masks)
        hook.remove()
        torch.testing.assert_close(seen[0], embedded)
        torch.testing.assert_close(found.cls, expected[:, 0])
        torch.testing.assert_close(found.patches, expected[:, 1:])
        clean, nothing_masked = model(pixels), model(pixels, torch.zeros_like(masks))
        torch.testing.assert_close(nothing_masked.patches, clean.patches)
        assert not torch.allclose(found.patches, clean.patches)


@pytest.mark.parametrize("options", [{}, {"reg_tokens": 2}], ids=["plain", "registers"])
def test_clean_and_masked_in_one_pass_are_two_passes(options: dict[str, Any]) -> None:
    # In double precision: gradients of the cls token, which starts at 1e-6, depend on the order of sums in single.
    model = tiny(mask_token=True, **options).double()
    model.mask_token.data.normal_()
    pixels, masks = images(56, 56).double(), torch.rand(1, 16, generator=torch.Generator().manual_seed(2)) < 0.4
    gradients = []
    for found in (model.clean_and_masked(pixels, masks), (model(pixels), model(pixels[:1], masks))):
        model.zero_grad()
        sum(part.square().sum() for view in found for part in (view.cls, view.patches)).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()} | {"cls": found[1].cls.detach()})
        assert [view.patches.shape for view in found] == [(2, 16, 24), (1, 16, 24)]
        assert [view.grid for view in found] == [(4, 4), (4, 4)]
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], gradient, atol=1e-8, rtol=1e-8, msg=lambda m, n=name: n + m)


def saved_bytes(model: ViT, pixels: Tensor) -> tuple[int, dict[str, Tensor]]:
    """What a training step keeps for its backward pass, except pixels and weights, and the gradients."""
    kept: dict[int, int] = {}
    given = {value.untyped_storage().data_ptr() for value in (pixels, *model.parameters())}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in given:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    model.zero_grad()
    torch.manual_seed(3)  # drop path
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        loss = model(pixels).patches.square().mean()
    loss.backward()
    return sum(kept.values()), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_checkpointed_activations_give_the_same_gradients_from_less_memory() -> None:
    pixels = images(56, 56)
    plain, spared = (
        tiny(drop_path_rate=0.5, grad_checkpointing=checkpointing).train() for checkpointing in (False, True)
    )
    bytes_plain, expected = saved_bytes(plain, pixels)
    bytes_spared, found = saved_bytes(spared, pixels)
    # Each block keeps its input, of about twenty tensors of that size.
    inputs = 3 * 2 * 17 * 24 * 4
    assert bytes_spared + inputs < bytes_plain / 4
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name


def test_nothing_is_computed_twice_in_eval_mode_or_without_gradient() -> None:
    model = tiny(grad_checkpointing=True)
    calls: list[int] = []
    model.vit.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    model(images(56, 56)).cls.sum().backward()
    assert len(calls) == 1
    model.train()
    model(images(56, 56)).cls.sum().backward()
    assert len(calls) == 3
    with torch.no_grad():
        model(images(56, 56))
    assert len(calls) == 4


def test_masks_need_a_mask_token() -> None:
    with pytest.raises(ValueError, match="set mask_token=True"):
        tiny()(images(56, 56), torch.zeros(2, 16, dtype=torch.bool))


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize(("height", "width"), [(14, 14), (28, 70), (84, 56), (56, 56)])
def test_any_multiple_of_the_patch_is_taken(height: int, width: int, registers: int) -> None:
    model = tiny(reg_tokens=registers, interpolate_offset=0.0)
    found = model(images(height, width))
    assert found.grid == (height // 14, width // 14)
    assert found.patches.shape == (2, height * width // 196, 24)
    assert found.cls.shape == (2, 24)


@pytest.mark.parametrize(("height", "width"), [(57, 56), (56, 50)])
def test_other_sizes_are_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=rf"images of {height}x{width} px .* patches of 14 px"):
        tiny()(images(height, width))


def test_levels_come_in_the_order_of_the_blocks() -> None:
    model = tiny()
    pixels = images(56, 56)
    with torch.inference_mode():
        last, first = model.levels(pixels, [0])[0], model.levels(pixels, [-1])[0]
        found = model.levels(pixels, [-1, 0])
        assert len(found) == 2
        torch.testing.assert_close(found[0].patches, last.patches)
        torch.testing.assert_close(found[1].patches, first.patches)
        torch.testing.assert_close(found[1].cls, model(pixels).cls)


@pytest.mark.parametrize("indices", [[3], [0, -4], []])
def test_blocks_that_do_not_exist_are_refused(indices: list[int]) -> None:
    with pytest.raises(IndexError, match=r"ViT with 3 \(0 to 2\)"):
        tiny().levels(images(56, 56), indices)
    with pytest.raises(IndexError, match=r"ViT with 3 \(0 to 2\)"):
        DenseViT(out_indices=indices, arch="tiny", **NARROW)


def test_a_dense_vit_takes_no_masks() -> None:
    dense = DenseViT(out_indices=[2], arch="tiny", **NARROW)
    with pytest.raises(ValueError, match="use ViT"):
        dense(images(56, 56), torch.zeros(2, 16, dtype=torch.bool))


def test_drop_path_grows_over_the_blocks() -> None:
    blocks = tiny(drop_path_rate=0.2).vit.blocks
    assert [getattr(block.drop_path1, "drop_prob", 0.0) for block in blocks] == pytest.approx([0.0, 0.1, 0.2])
    assert not any(hasattr(block.drop_path1, "drop_prob") for block in tiny().vit.blocks)


def test_layer_scale_can_be_left_out() -> None:
    assert not any("gamma" in key for key in tiny(init_values=None).state_dict())


def test_an_unknown_architecture_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"arch='smal'.*tiny, small, base.*nearest: small"):
        ViT("smal")


@pytest.mark.parametrize("arch", ["resnet18", "vit_small_patch16_rope_224", "vit_dpwee_patch16_reg1_gap_256"])
def test_models_other_than_a_plain_vit_raise(arch: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=f"arch='{arch}' .*not a plain ViT"):
        ViT(arch, img_size=224, patch_size=16)


def test_a_size_that_does_not_divide_is_refused_with_the_two_nearest() -> None:
    with pytest.raises(ValueError, match=r"img_size=100 .* patch_size=14: write 98 or 112"):
        ViT("tiny", img_size=100)


def test_a_file_replaces_every_weight_and_the_mask_token(tmp_path: Path) -> None:
    source = tiny(mask_token=True)
    for parameter in source.parameters():
        nn.init.normal_(parameter)
    assert source.mask_token is not None
    torch.save({**source.timm_state(), "mask_token": source.mask_token.detach()}, tmp_path / "all.pth")
    torch.save(source.timm_state(), tmp_path / "without_mask_token.pth")
    loaded = tiny(mask_token=True, checkpoint=tmp_path / "all.pth")
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in source.state_dict().items())
    without = tiny(mask_token=True, checkpoint=tmp_path / "without_mask_token.pth")
    assert without.mask_token is not None
    assert not without.mask_token.any()
    unmasked = tiny(checkpoint=tmp_path / "all.pth")
    assert unmasked.mask_token is None
    assert torch.equal(unmasked.vit.pos_embed, source.vit.pos_embed)


def test_the_first_blocks_of_a_deeper_file_are_taken_where_that_is_said(tmp_path: Path) -> None:
    whole = tiny()
    torch.save(whole.timm_state(), tmp_path / "three.pth")
    with pytest.raises(ValueError, match=r"2 blocks.*the file: ViT of width 24, 3 blocks"):
        tiny(depth=2, checkpoint=tmp_path / "three.pth")
    first = tiny(depth=2, allow_extra_blocks=True, checkpoint=tmp_path / "three.pth")
    images = torch.randn(2, 3, 28, 28)
    hooked: list[torch.Tensor] = []
    whole.vit.blocks[1].register_forward_hook(lambda _module, _inputs, output: hooked.append(output))
    with torch.no_grad():
        whole(images)
        torch.testing.assert_close(first(images).cls, whole.vit.norm(hooked[0])[:, 0])
    with pytest.raises(ValueError, match="4 blocks"):
        tiny(depth=4, allow_extra_blocks=True, checkpoint=tmp_path / "three.pth")


def test_on_the_meta_device_a_file_is_checked_and_not_read_in(tmp_path: Path) -> None:
    torch.save(tiny(img_size=70).timm_state(), tmp_path / "right.pth")
    torch.save(tiny(depth=2).timm_state(), tmp_path / "wrong.pth")
    with torch.device("meta"):
        assert tiny(checkpoint=tmp_path / "right.pth").vit.pos_embed.is_meta
        with pytest.raises(ValueError, match=r"3 blocks.*the file: ViT of width 24, 2 blocks"):
            tiny(checkpoint=tmp_path / "wrong.pth")


def test_on_the_meta_device_no_weights_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timm.models.vision_transformer.VisionTransformer.init_weights", lambda *_, **__: 1 / 0)
    with torch.device("meta"):
        assert next(ViT("tiny", img_size=28).parameters()).is_meta
    with pytest.raises(ZeroDivisionError):
        ViT("tiny", img_size=28)


def test_no_layer_scale_where_the_architecture_has_one() -> None:
    # timm drops arguments that are None: DINOv2's architectures kept their LayerScale.
    model = ViT("small", img_size=28, embed_dim=24, depth=1, num_heads=3, init_values=None)
    assert not [key for key in model.timm_state() if ".ls" in key]
    again = timm.create_model(**model.timm_args, num_classes=0)
    again.load_state_dict(model.timm_state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"arch": "giant", "embed_dim": 64},
            r"num_heads=24, the heads of arch='giant', does not divide embed_dim=64: write num_heads=1, 2, 4$",
        ),
        ({"embed_dim": 64, "num_heads": 3}, r"num_heads=3 does not divide embed_dim=64: write num_heads=1, 2, 4$"),
    ],
)
def test_heads_that_do_not_divide_the_width_are_refused_with_those_that_do(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViT(**options)
