"""Renaming there and back is exact, and the libraries that use the names load what was written."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from proteus.checkpoints import (
    FORMS,
    CheckpointError,
    convert,
    export_backbone,
    from_timm_keys,
    read_description,
    read_state_dict,
    to_timm_keys,
)
from proteus.models import ViT
from proteus.models.backbones import locate_backbone
from proteus.structures import FullDiskError

NARROW: dict[str, Any] = {"img_size": 56, "embed_dim": 48, "depth": 2, "num_heads": 3}
DINOV2: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
DINOV2 |= {"image_size": 56, "patch_size": 14}
PLAIN = {**NARROW, "init_values": None}


def shaken(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model.eval()


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def images() -> Tensor:
    return torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(1))


# Those that copy values bit by bit.
EXACT = [form for form in FORMS if form != "mmseg-vit"]
# Ours, with the forms that have names for them.
VITS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "dinov2": (dict(arch="small", **NARROW), EXACT),
    "giant": (dict(arch="giant", **NARROW), EXACT),
    "registers": (dict(arch="small", reg_tokens=4, **NARROW), ["timm", "dinov2", "hf"]),
    "plain": (dict(arch="tiny", **PLAIN), EXACT),
    "clip": (dict(arch="clip-large", **NARROW), ["timm", "hf", "mmpretrain", "mmseg"]),
}
CASES = [(name, form) for name, (_, forms) in VITS.items() for form in forms]


def vit(name: str, checkpoint: Path | None = None) -> ViT:
    return ViT(**VITS[name][0], patch_size=14, checkpoint=checkpoint)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_there_and_back_is_exact(name: str, form: str, tmp_path: Path) -> None:
    suffix = ".safetensors" if form in ("timm", "hf") else ".pth"  # what each project's users have
    state = shaken(vit(name)).timm_state()  # type: ignore[operator]
    state = {**state, "mask_token": torch.randn(1, 48), "norm.bias": state["norm.bias"].bfloat16()}
    save_file(state, tmp_path / "source.safetensors")
    convert(tmp_path / "source.safetensors", tmp_path / f"there{suffix}", form)
    convert(tmp_path / f"there{suffix}", tmp_path / "back.safetensors", "timm")
    back = load_file(tmp_path / "back.safetensors")
    assert same(back, state)
    assert {key: value.dtype for key, value in back.items()} == {key: value.dtype for key, value in state.items()}
    there = read_state_dict(tmp_path / f"there{suffix}")
    assert all(value.is_contiguous() for value in there.values())
    if form == "timm":
        assert same(there, state)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_the_model_is_the_same_whatever_the_names(name: str, form: str, tmp_path: Path) -> None:
    source = shaken(vit(name))
    save_file(source.timm_state(), tmp_path / "source.safetensors")  # type: ignore[operator]
    convert(tmp_path / "source.safetensors", tmp_path / "there.pth", form)
    loaded = vit(name, tmp_path / "there.pth").eval()
    with torch.inference_mode():
        assert torch.equal(loaded(images()).patches, source(images()).patches)


def hugging(name: str) -> Any:
    torch.manual_seed(0)
    if name == "registers":
        config: Any = transformers.Dinov2WithRegistersConfig(num_register_tokens=4, **DINOV2)
        return shaken(transformers.Dinov2WithRegistersModel(config))
    if name == "plain":
        size = {**DINOV2, "intermediate_size": 192, "layer_norm_eps": 1e-6}
        return shaken(transformers.ViTModel(transformers.ViTConfig(**size), add_pooling_layer=False))
    if name == "clip":
        size = {**DINOV2, "intermediate_size": 192}
        return shaken(transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**size)))
    return shaken(transformers.Dinov2Model(transformers.Dinov2Config(use_swiglu_ffn=name == "giant", **DINOV2)))


@torch.inference_mode()
def tokens_of_transformers(model: Any) -> Tensor:
    tokens = model(images()).last_hidden_state
    return model.post_layernorm(tokens) if hasattr(model, "post_layernorm") else tokens


@pytest.mark.parametrize("name", list(VITS))
def test_transformers_files_go_through_every_form_and_come_back(name: str, tmp_path: Path) -> None:
    model = hugging(name)
    model.save_pretrained(tmp_path)
    file, own = tmp_path / "model.safetensors", load_file(tmp_path / "model.safetensors")
    own = {f"vision_model.{key}": value for key, value in own.items()} if name == "clip" else own
    # With registers, timm has no position embedding for the cls token, so that it does not come back.
    for form in [form for form in VITS[name][1] if (name, form) != ("registers", "timm")]:
        convert(file, tmp_path / "there.pth", form)
        convert(tmp_path / "there.pth", tmp_path / "back.safetensors", "hf")
        assert same(load_file(tmp_path / "back.safetensors"), own), form
    expected = tokens_of_transformers(model)
    found = vit(name, file).eval()
    with torch.inference_mode():
        features = found(images())
    torch.testing.assert_close(features.cls, expected[:, 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(features.patches, expected[:, -16:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", list(VITS))
def test_transformers_load_what_is_written_for_them(name: str, tmp_path: Path) -> None:
    source, model = shaken(vit(name)), hugging(name)
    save_file(source.timm_state(), tmp_path / "source.safetensors")  # type: ignore[operator]
    model.config.save_pretrained(tmp_path)
    convert(tmp_path / "source.safetensors", tmp_path / "model.safetensors", "hf")
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["unexpected_keys"]
    assert set(report["missing_keys"]) <= {"embeddings.mask_token", "pooler.dense.weight", "pooler.dense.bias"}
    expected = tokens_of_transformers(loaded.eval())
    with torch.inference_mode():
        features = source(images())
    torch.testing.assert_close(features.cls, expected[:, 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(features.patches, expected[:, -16:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", list(VITS))
def test_timm_loads_what_is_written_for_it(name: str, tmp_path: Path) -> None:
    model = hugging(name)
    model.save_pretrained(tmp_path)
    convert(tmp_path / "model.safetensors", tmp_path / "timm.safetensors", "timm")
    state = load_file(tmp_path / "timm.safetensors")
    state.pop("mask_token", None)
    theirs = timm.create_model(**vit(name).timm_args, num_classes=0).eval()
    theirs.load_state_dict(state)
    with torch.inference_mode():
        found = theirs.forward_features(images())
    expected = tokens_of_transformers(model)
    torch.testing.assert_close(found[:, 0], expected[:, 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(found[:, -16:], expected[:, -16:], atol=1e-4, rtol=0)


def test_registers_keep_their_cls_position_under_metas_names(tmp_path: Path) -> None:
    model = hugging("registers")
    model.save_pretrained(tmp_path)
    convert(tmp_path / "model.safetensors", tmp_path / "meta.pth", "dinov2")
    found = torch.load(tmp_path / "meta.pth", weights_only=True)
    assert found["register_tokens"].shape == (1, 4, 48)
    assert torch.equal(found["pos_embed"], model.embeddings.position_embeddings)
    from_timm = from_timm_keys(from_timm_keys(to_timm_keys(found), "timm"), "dinov2")
    assert not from_timm["pos_embed"][:, 0].any()
    assert torch.equal(from_timm["cls_token"], found["cls_token"] + found["pos_embed"][:, :1])


@pytest.mark.parametrize("name", ["dinov2", "giant", "plain", "clip"])
def test_mmpretrain_loads_what_is_written_for_it(name: str, tmp_path: Path) -> None:
    pytest.importorskip("mmpretrain.registry")
    from mmpretrain.registry import MODELS

    source = shaken(vit(name))
    save_file(source.timm_state(), tmp_path / "source.safetensors")  # type: ignore[operator]
    convert(tmp_path / "source.safetensors", tmp_path / "there.pth", "mmpretrain")
    layer: dict[str, Any] = {"ffn_type": "swiglu_fused"} if name == "giant" else {}
    layer |= {"act_cfg": {"type": "QuickGELU"}} if name == "clip" else {}
    options = {
        "type": "VisionTransformer",
        "_scope_": "mmpretrain",
        "arch": {"embed_dims": 48, "num_layers": 2, "num_heads": 3, "feedforward_channels": 192},
        "img_size": 56,
        "patch_size": 14,
        "out_type": "raw",
        "pre_norm": name == "clip",
        "norm_cfg": {"type": "LN", "eps": 1e-5 if name == "clip" else 1e-6},
        "layer_scale_init_value": 1.0 if name in ("dinov2", "giant") else 0.0,
        "layer_cfgs": layer,
    }
    theirs = MODELS.build(options)
    theirs.eval()  # which returns None
    theirs.load_state_dict(torch.load(tmp_path / "there.pth", weights_only=True))
    with torch.inference_mode():
        found, expected = theirs(images())[0], source(images())
    torch.testing.assert_close(found[:, 0], expected.cls, atol=1e-4, rtol=0)
    torch.testing.assert_close(found[:, 1:], expected.patches, atol=1e-4, rtol=0)


MMSEG = [
    ("dinov2", "mmseg"),
    ("plain", "mmseg"),
    ("dinov2", "mmseg-vit"),
    ("plain", "mmseg-vit"),
    ("clip", "mmseg-vit"),
]


@pytest.mark.parametrize(("name", "form"), MMSEG)
def test_mmseg_loads_what_is_written_for_it(name: str, form: str, tmp_path: Path) -> None:
    registry = pytest.importorskip("mmseg.registry")
    source = shaken(vit(name))
    file = described(source, tmp_path / "source.safetensors")
    done = convert(file, tmp_path / "there.pth", form)
    # The dict that is printed, in the scope that it names.
    options = eval(done.usage, {"dict": dict})
    theirs = registry.MODELS.build(options)
    theirs.eval()  # which returns None
    given = read_state_dict(tmp_path / "there.pth")
    missing, left_over = theirs.load_state_dict(given, strict=False)
    # Relative positions start at zero in MAE, and gammas at one.
    assert all("relative_position" in key or (name == "plain" and "gamma" in key) for key in missing)
    assert form == "mmseg" or not (missing or left_over)
    with torch.inference_mode():
        (found,) = theirs(images())
        (expected,) = source.levels(images(), [-1], norm=form == "mmseg-vit")  # type: ignore[operator]
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), expected.patches, atol=1e-4, rtol=0)
    # And ours reads it back: the same features, LayerScale included.
    back = ViT(**{**VITS[name][0], **({"init_values": None} if form == "mmseg-vit" else {})}, patch_size=14,
               checkpoint=tmp_path / "there.pth").eval()  # fmt: skip
    with torch.inference_mode():
        torch.testing.assert_close(back(images()).patches, source(images()).patches, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["dinov2", "giant", "clip", "plain"])
def test_the_printed_dict_fits_mmpretrain(name: str, tmp_path: Path) -> None:
    registry = pytest.importorskip("mmpretrain.registry")
    source = shaken(vit(name))
    done = convert(described(source, tmp_path / "s.safetensors"), tmp_path / "t.pth", "mmpretrain")
    theirs = registry.MODELS.build(eval(done.usage, {"dict": dict}))
    theirs.eval()
    theirs.load_state_dict(read_state_dict(tmp_path / "t.pth"))
    with torch.inference_mode():
        torch.testing.assert_close(theirs(images())[0][:, 0], source(images()).cls, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", list(VITS))
@pytest.mark.parametrize("form", ["timm", "hf"])
def test_the_printed_code_builds_a_model_for_the_names(name: str, form: str, tmp_path: Path) -> None:
    done = convert(described(shaken(vit(name)), tmp_path / "s.safetensors"), tmp_path / "t.safetensors", form)
    model = eval(done.usage, {"timm": timm, "transformers": transformers})
    given = {key.removeprefix("vision_model."): value for key, value in load_file(tmp_path / "t.safetensors").items()}
    own = {key.removeprefix("vision_model."): value for key, value in model.state_dict().items()}
    assert {key for key in own if key in given} >= {key for key in given if "mask_token" not in key} & set(own)
    assert all(own[key].shape == value.shape for key, value in given.items() if key in own)


def described(model: Any, path: Path) -> Path:
    """Export a ViT with its description."""
    arguments = dict(model.timm_args)
    about = {"architecture": arguments.pop("model_name"), "arguments": arguments, "mean": [0.1, 0.2, 0.3]}
    return export_backbone(model.timm_state(), path, {**about, "std": [0.4, 0.5, 0.6], "teacher": "T", "iterations": 7})


@pytest.mark.parametrize("form", FORMS)
def test_the_description_is_carried_on_and_evaluate_reads_it(form: str, tmp_path: Path) -> None:
    source = shaken(ViT("tiny", **NARROW))
    file = described(source, tmp_path / "student.safetensors")
    convert(file, tmp_path / "there.safetensors", form)
    found = read_description(tmp_path / "there.safetensors")
    assert found is not None
    assert (found.mean, found.std, found.teacher, found.iterations) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "T", 7)
    assert (found.converted_to, found.converted_from) == (form, "student.safetensors")
    spec = locate_backbone(str(tmp_path / "there.safetensors"), img_size=56)
    assert (spec.mean, spec.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    with torch.inference_mode():
        found_features = spec.build()(images())
    torch.testing.assert_close(found_features.patches, source(images()).patches, atol=1e-4, rtol=0)
    # A second conversion keeps all of it.
    again = convert(tmp_path / "there.safetensors", tmp_path / "again.safetensors", "timm")
    assert again.shape.width == 48
    assert locate_backbone(str(tmp_path / "again.safetensors"), img_size=56).mean == (0.1, 0.2, 0.3)


def test_files_of_earlier_versions_are_recognised(tmp_path: Path) -> None:
    # They held a title for the architecture, and no arguments.
    state = ViT("small", img_size=56, depth=1).timm_state()
    export_backbone(state, tmp_path / "old.safetensors", {"converted_to": "hf", "architecture": "DINOv2 ViT-S/14"})
    assert "recognised as DINOv2 ViT-S/14" in locate_backbone(str(tmp_path / "old.safetensors"), img_size=56).note


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_converted_file_has_the_umasks_mode(suffix: str, tmp_path: Path) -> None:
    file = described(ViT("tiny", **NARROW), tmp_path / "student.safetensors")
    before = os.umask(0o027)
    try:
        convert(file, tmp_path / f"there{suffix}", "timm")
        exported = described(ViT("tiny", **NARROW), tmp_path / "exported.safetensors")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (exported, tmp_path / f"there{suffix}")} == {0o640}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_full_disk_is_named_and_leaves_the_old_file(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, target = described(ViT("tiny", **NARROW), tmp_path / "student.safetensors"), tmp_path / f"out{suffix}"
    target.write_bytes(b"old")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr("proteus.checkpoints.export.save_file", full)
    with pytest.raises(FullDiskError, match=rf"out{suffix}: no space left"):
        convert(file, target, "timm")
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"out{suffix}", "student.safetensors"]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_that_are_not_finite_are_not_written(suffix: str, tmp_path: Path) -> None:
    state = ViT("tiny", **NARROW).timm_state()
    state["norm.bias"][3] = float("nan")
    save_file(state, tmp_path / "diverged.safetensors")
    with pytest.raises(CheckpointError, match=r"diverged\.safetensors: norm\.bias holds 1 of 48 values"):
        convert(tmp_path / "diverged.safetensors", tmp_path / f"out{suffix}", "hf")
    with pytest.raises(CheckpointError, match=r"student\.safetensors is not written: the weights: norm\.bias holds"):
        export_backbone(state, tmp_path / "student.safetensors", {})
    assert [path.name for path in tmp_path.iterdir()] == ["diverged.safetensors"]


def test_mmseg_gets_the_names_of_the_releases_converter(tmp_path: Path) -> None:
    # The names of docs/reproduction.md#released-checkpoints, written out a second time.
    state = vit("dinov2").timm_state() | {"mask_token": torch.zeros(1, 48)}
    expected = {}
    for key, value in state.items():
        if key.startswith("blocks."):
            key = key.replace("blocks", "layers").replace("norm", "ln")
            key = key.replace("mlp.fc1", "ffn.layers.0.0").replace("mlp.fc2", "ffn.layers.1")
            key = re.sub(r"ls([12])\.gamma", r"gamma_\1", key)
        expected[key.replace("patch_embed.proj.", "patch_embed.projection.")] = value
    assert "layers.1.ln2.bias" in expected
    assert "layers.0.gamma_1" in expected
    assert same(from_timm_keys(state, "mmseg"), expected)


@pytest.mark.parametrize(
    ("name", "form", "message"),
    [
        (
            "registers",
            "mmpretrain",
            "--to mmpretrain has no name for register tokens; write --to timm, dinov2 or hf",
        ),
        ("registers", "mmseg", "register tokens"),
        ("clip", "dinov2", "LayerNorm before the first block; write --to timm, hf or mmpretrain"),
        ("dinov2", "keras", "unknown naming scheme 'keras'; choose from: timm, dinov2, hf, mmpretrain, mmseg"),
    ],
)
def test_models_without_names_in_a_scheme_are_refused(name: str, form: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(message)):
        from_timm_keys(vit(name).timm_state(), form)


DINOV3: dict[str, Any] = {"embed_dim": 384, "depth": 1, "img_size": 32, "num_classes": 0}


@pytest.mark.parametrize("arch", ["vit_small_patch16_dinov3", "vit_small_plus_patch16_dinov3_qkvb"])
def test_dinov3_keeps_timms_names(arch: str, tmp_path: Path) -> None:
    state = timm.create_model(arch, **DINOV3).state_dict()
    save_file(state, tmp_path / "dinov3.safetensors")
    for form in FORMS[1:]:
        words = f"--to {form} has no name for a ViT without a position embedding, such as DINOv3; write --to timm"
        with pytest.raises(CheckpointError, match=re.escape(words)):
            convert(tmp_path / "dinov3.safetensors", tmp_path / "out.pth", form)
    done = convert(tmp_path / "dinov3.safetensors", tmp_path / "out.safetensors", "timm")
    assert done.shape.title == "DINOv3 ViT-S/16"
    assert same(load_file(tmp_path / "out.safetensors"), state)
    assert arch in done.usage
    eval(done.usage, {"timm": timm}).load_state_dict(state)


def test_parts_without_a_name_are_refused(tmp_path: Path) -> None:
    for arch, key in (("eva02_tiny_patch14_224", "blocks.0.attn.q_bias"), ("deit_tiny_distilled_patch16_224", "dist")):
        save_file(timm.create_model(arch, depth=1, num_classes=0).state_dict(), tmp_path / "a.safetensors")
        with pytest.raises(CheckpointError, match=f"--to hf has no name for {key}.*; write --to timm"):
            convert(tmp_path / "a.safetensors", tmp_path / "out.pth", "hf")
    state = timm.create_model("vit_small_patch16_dinov3", **DINOV3).state_dict()
    state["storage_tokens"] = state.pop("reg_token")
    save_file(state, tmp_path / "meta.safetensors")
    with pytest.raises(CheckpointError, match=r"meta.safetensors has the names of Meta's DINOv3, which are not conv"):
        convert(tmp_path / "meta.safetensors", tmp_path / "out.pth", "timm")


def test_other_models_are_refused(tmp_path: Path) -> None:
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "resnet.safetensors")
    with pytest.raises(CheckpointError, match=r"resnet\.safetensors holds \d+ tensors and no ViT"):
        convert(tmp_path / "resnet.safetensors", tmp_path / "out.pth", "hf")
    with pytest.raises(CheckpointError, match=r"out\.ckpt: write a name that ends in \.safetensors or \.pth"):
        convert(tmp_path / "resnet.safetensors", tmp_path / "out.ckpt", "hf")
    assert not (tmp_path / "out.pth").exists()
