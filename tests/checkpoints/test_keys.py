"""Names alone; that the values land in the right places, tests/models/backbones/test_vit_parity.py shows."""

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from proteus.checkpoints import CheckpointError, read_state_dict, to_timm_keys
from proteus.models import Distiller, MultiStudentDistiller, TimmBackbone, ViT

NARROW: dict[str, Any] = {"img_size": 56, "embed_dim": 24, "depth": 2, "num_heads": 3}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def vit() -> ViT:
    return ViT("tiny", mask_token=True, **NARROW)


def test_timms_own_names_stay() -> None:
    state = vit().timm_state()
    assert same(to_timm_keys(state), state)


@pytest.mark.parametrize("wrapper", ["", "module."])
def test_student_of_our_training_checkpoint_is_taken(wrapper: str) -> None:
    options: dict[str, Any] = {"type": "ViT", "arch": "tiny", **NARROW}
    model = Distiller(
        teacher=dict(type="Teacher", backbone=options),
        student=dict(options, mask_token=True),
        objectives=dict(token=dict(type="TokenObjective"), patch=dict(type="PatchObjective")),
    )
    model.student.mask_token.data.fill_(3)
    state = {f"{wrapper}{key}": value for key, value in model.state_dict().items()}
    found = to_timm_keys(state)
    assert same(found, {**model.student.timm_state(), "mask_token": torch.full((1, 24), 3.0)})


def test_vit_and_mask_token_of_our_wrapper_are_taken() -> None:
    model = vit()
    assert same(to_timm_keys(model.state_dict()), {**model.timm_state(), "mask_token": torch.zeros(1, 24)})


@pytest.mark.parametrize("prefix", ["student.backbone.", "backbone.", "module."])
def test_prefixes_of_other_projects_are_removed(prefix: str) -> None:
    # Released checkpoints hold student.backbone.* next to the heads (docs/reproduction.md#released-checkpoints).
    state = vit().timm_state()
    whole = {f"{prefix}{key}": value for key, value in state.items()}
    assert same(to_timm_keys({**whole, "token_head.0.weight": torch.zeros(1)}), state)


def test_student_of_the_released_checkpoint_is_taken() -> None:
    student, teacher = vit().timm_state(), vit().timm_state()
    whole = {f"teacher.backbone.{key}": value for key, value in teacher.items()}
    whole |= {f"student.backbone.{key}": value for key, value in student.items()}
    assert same(to_timm_keys(whole), student)


def test_a_dinov2_backbone_inside_another_model_is_found() -> None:
    # transformers' Dinov2ForImageClassification calls its backbone dinov2; AutoBackbone models call it backbone.
    width = 4
    inside = {
        "embeddings.cls_token": torch.zeros(1, 1, width),
        "encoder.layer.10.attention.attention.query.weight": torch.full((width, width), 1.0),
        "encoder.layer.10.attention.attention.key.weight": torch.full((width, width), 2.0),
        "encoder.layer.10.attention.attention.value.weight": torch.full((width, width), 3.0),
        "layernorm.bias": torch.zeros(width),
    }
    found = to_timm_keys({f"backbone.{key}": value for key, value in inside.items()})
    assert set(found) == {"cls_token", "blocks.10.attn.qkv.weight", "norm.bias"}
    assert found["blocks.10.attn.qkv.weight"][:, 0].tolist() == [1.0] * 4 + [2.0] * 4 + [3.0] * 4


def test_unknown_names_stay_unchanged() -> None:
    state = {
        "something.else": torch.zeros(1),
        "embeddings.cls_token": torch.zeros(1, 1, 4),
        "encoder.layer.0.attention.attention.query.weight": torch.zeros(4, 4),  # key and value are missing
    }
    assert set(to_timm_keys(state)) == {
        "something.else",
        "cls_token",
        "encoder.layer.0.attention.attention.query.weight",
    }


def test_several_students_are_refused() -> None:
    size = dict(type="ViT", arch="tiny", img_size=28, embed_dim=24, depth=1, num_heads=3)
    one = dict(student=size, objectives=dict(token=dict(type="TokenObjective")))
    state = MultiStudentDistiller(dict(type="Teacher", backbone=size), dict(tiny=one, small=one)).state_dict()
    with pytest.raises(CheckpointError, match=r"several students \(small, tiny\): give .* student_small\.safetensors"):
        to_timm_keys(state)
    own = {key: value for key, value in state.items() if key.startswith("students.tiny.")}
    assert torch.equal(to_timm_keys(own)["cls_token"], state["students.tiny.student.vit.cls_token"])


def chunked(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of Meta's training code: block 1 is the second of chunk 0."""
    return {re.sub(r"^blocks\.(\d+)\.", r"blocks.0.\1.", key): value for key, value in state.items()}


def wrapped(state: dict[str, Tensor], wrapper: str) -> dict[str, Tensor]:
    """The names of a model of which every block, and the whole, is wrapped."""
    inside = re.compile(r"^(blocks[.0-9]+[.])")
    return {f"{wrapper}." + inside.sub(rf"\1{wrapper}.", key): value for key, value in state.items()}


WRAPPERS = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_fpw_module"]


@pytest.mark.parametrize("names", ["plain", "chunked"])
@pytest.mark.parametrize("wrapper", ["", *WRAPPERS, "_fsdp_wrapped_module._checkpoint_wrapped_module"])
@pytest.mark.parametrize("prefix", ["", "module.", "student.backbone."])
def test_names_of_training_code_are_read(names: str, wrapper: str, prefix: str, tmp_path: Path) -> None:
    state = vit().timm_state()
    given = chunked(state) if names == "chunked" else dict(state)
    given = wrapped(given, wrapper) if wrapper else given
    torch.save({"model": {f"{prefix}{key}": value for key, value in given.items()}}, tmp_path / "trained.pth")
    assert same(to_timm_keys(read_state_dict(tmp_path / "trained.pth")), state)
    loaded = ViT("tiny", checkpoint=tmp_path / "trained.pth", **NARROW)
    assert same(loaded.timm_state(), state)


def test_chunks_of_several_blocks_keep_their_numbers() -> None:
    state = ViT("tiny", **{**NARROW, "depth": 8}).timm_state()
    given = {
        re.sub(r"^blocks\.(\d+)\.", lambda m: f"blocks.{int(m[1]) // 2}.{m[1]}.", key): state[key] for key in state
    }
    assert "blocks.3.6.norm1.weight" in given
    assert same(to_timm_keys(given), state)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_cnn_is_read(wrapper: str, tmp_path: Path) -> None:
    state = timm.create_model("test_resnet", num_classes=0).state_dict()
    torch.save({"state_dict": {f"{wrapper}.{key}": value for key, value in state.items()}}, tmp_path / "cnn.pth")
    loaded = TimmBackbone("test_resnet", checkpoint=tmp_path / "cnn.pth").timm_state()
    assert same(loaded, state)


def test_flat_shards_are_refused(tmp_path: Path) -> None:
    torch.save({"model": {"_fsdp_wrapped_module._flat_param": torch.zeros(9)}}, tmp_path / "rank0.pth")
    with pytest.raises(CheckpointError, match=r"rank0\.pth holds FSDP's flat shards.*FULL_STATE_DICT"):
        read_state_dict(tmp_path / "rank0.pth")


@pytest.mark.parametrize(
    ("key", "shape"),
    [("cls_token", ()), ("cls_token", (24,)), ("pos_embed", (17, 24)), ("patch_embed.proj.weight", (24, 3)),
     ("mask_token", (1, 23)), ("mask_token", ())],
)  # fmt: skip
def test_shapes_that_no_vit_has_are_named(key: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    torch.save({**vit().timm_state(), key: torch.zeros(shape)}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=rf"odd\.pth: {key} has the shape"):
        to_timm_keys(read_state_dict(tmp_path / "odd.pth"))
