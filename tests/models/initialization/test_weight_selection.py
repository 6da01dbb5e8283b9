import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from proteus.checkpoints import CheckpointError
from proteus.models import ViT, WeightSelection
from proteus.models.initialization import evenly_spaced, select_evenly

SMALL = dict(arch="tiny", img_size=56, embed_dim=24, depth=2, num_heads=3, interpolate_offset=0.0)


def large(path: Path, **options: Any) -> ViT:
    """A model twice as wide, with weights that all differ, and its file."""
    model = ViT(**{**SMALL, "embed_dim": 48, "depth": 3, **options})
    for parameter in model.parameters():
        parameter.data.normal_()
    save_file(model.timm_state(), path)
    return model


def test_selection_of_a_small_matrix() -> None:
    matrix = torch.arange(24).view(4, 6)
    # Every second row, every third column.
    assert select_evenly(matrix, torch.Size((2, 2))).tolist() == [[0, 3], [12, 15]]
    # Six do not divide by four: evenly from the first to the last of 0..5, rounded: 0, 1.67, 3.33, 5.
    assert select_evenly(matrix, torch.Size((4, 4)))[0].tolist() == [0, 2, 3, 5]
    assert evenly_spaced(768, 384).tolist() == list(range(0, 768, 2))
    assert evenly_spaced(5, 5).tolist() == [0, 1, 2, 3, 4]


def test_every_tensor_is_selected_from_the_first_blocks(tmp_path: Path) -> None:
    source = large(tmp_path / "large.safetensors")
    student = ViT(**SMALL)
    WeightSelection(student, tmp_path / "large.safetensors")
    given, taken = source.timm_state(), student.timm_state()
    for key, value in taken.items():
        expected = given[key]
        for axis in range(expected.ndim):
            if expected.shape[axis] != value.shape[axis]:
                expected = expected.index_select(axis, torch.arange(0, expected.shape[axis], 2))
        assert torch.equal(value, expected), key
    assert torch.equal(taken["blocks.1.attn.qkv.weight"], given["blocks.1.attn.qkv.weight"][::2, ::2])


def test_queries_keys_and_values_are_selected_apart(tmp_path: Path) -> None:
    source = large(tmp_path / "large.safetensors", embed_dim=36, num_heads=3)
    student = ViT(**SMALL)
    WeightSelection(student, tmp_path / "large.safetensors")
    rows = evenly_spaced(36, 24)
    parts = source.vit.blocks[0].attn.qkv.bias.view(3, 36)[:, rows]
    assert torch.equal(student.vit.blocks[0].attn.qkv.bias, parts.flatten())


def test_positions_are_resampled_first(tmp_path: Path) -> None:
    source = large(tmp_path / "large.safetensors", img_size=84)
    expected = ViT(**{**SMALL, "embed_dim": 48, "depth": 3, "checkpoint": tmp_path / "large.safetensors"})
    student = ViT(**SMALL)
    WeightSelection(student, tmp_path / "large.safetensors")
    assert source.timm_state()["pos_embed"].shape == (1, 37, 48)
    torch.testing.assert_close(student.timm_state()["pos_embed"], expected.timm_state()["pos_embed"][..., ::2])


def test_the_position_of_the_cls_token_is_added_to_it_where_the_student_has_registers(tmp_path: Path) -> None:
    source = large(tmp_path / "timm.safetensors", reg_tokens=4)
    state = source.timm_state()
    # As Meta's files with registers: the cls token has a position, and its embedding lacks it.
    first = torch.randn(1, 1, 48)
    state["cls_token"], state["pos_embed"] = state["cls_token"] - first, torch.cat([first, state["pos_embed"]], dim=1)
    save_file(state, tmp_path / "meta.safetensors")
    students = [ViT(**SMALL, reg_tokens=4) for _ in range(2)]
    for student, name in zip(students, ("timm", "meta"), strict=True):
        WeightSelection(student, tmp_path / f"{name}.safetensors")
    for key, value in students[0].timm_state().items():
        torch.testing.assert_close(students[1].timm_state()[key], value, msg=lambda m, k=key: f"{k}: {m}")
    assert torch.equal(students[1].vit.pos_embed, source.vit.pos_embed[..., ::2])


@pytest.mark.parametrize(
    ("source", "student", "words"),
    [
        ({"embed_dim": 12}, {}, "at least as large"),
        ({"depth": 1}, {}, r"lacks 14 of the student's weights \(blocks\.1"),
        ({"init_values": None}, {}, r"lacks 4 of the student's weights \(blocks\.0\.ls1"),
        ({"arch": "giant"}, {}, "gated MLPs"),
        ({}, {"patch_size": 28}, "at least as large"),
        ({"reg_tokens": 4}, {}, "has 16 positions at the student's img_size, and the student 17: set reg_tokens"),
    ],
    ids=["narrower", "shallower", "no LayerScale", "gated", "patch", "registers"],
)
def test_what_cannot_be_inherited(tmp_path: Path, source: dict, student: dict, words: str) -> None:
    large(tmp_path / "large.safetensors", **source)
    receiver = ViT(**{**SMALL, **student})
    before = copy.deepcopy(receiver.timm_state())
    with pytest.raises(CheckpointError, match=words):
        WeightSelection(receiver, tmp_path / "large.safetensors")
    assert all(torch.equal(value, before[key]) for key, value in receiver.timm_state().items())


def test_positions_that_form_no_square_are_refused(tmp_path: Path) -> None:
    state = large(tmp_path / "large.safetensors").timm_state()
    state["pos_embed"] = torch.randn(1, 1 + 16 + 4, 48)
    save_file(state, tmp_path / "large.safetensors")
    with pytest.raises(CheckpointError, match="has 21 positions at the student's img_size, and the student 17"):
        WeightSelection(ViT(**SMALL), tmp_path / "large.safetensors")


def test_on_the_meta_device_a_file_is_compared(tmp_path: Path) -> None:
    large(tmp_path / "large.safetensors")
    with torch.device("meta"):
        selection = WeightSelection(ViT(**SMALL))
    selection.load(tmp_path / "large.safetensors")
    assert selection.student.vit.cls_token.is_meta


def test_only_a_vit_inherits(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the student is Linear"):
        WeightSelection(torch.nn.Linear(2, 2))
