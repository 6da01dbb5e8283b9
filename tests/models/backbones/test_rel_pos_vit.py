from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from proteus.models import DenseViT, RelPosDenseViT, ViT
from proteus.models.backbones.rel_pos_vit import relative_positions

NARROW: dict[str, Any] = {"arch": "tiny", "img_size": 56, "embed_dim": 24, "depth": 4, "num_heads": 3}
IMAGES = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_file(ViT(**NARROW).timm_state(), tmp_path / "student.safetensors")
    return tmp_path / "student.safetensors"


def test_it_adds_the_tables_and_nothing_else(checkpoint: Path) -> None:
    plain, released = (kind(checkpoint=checkpoint, out_indices=(0, 3), **NARROW) for kind in (DenseViT, RelPosDenseViT))
    extra = {name: value for name, value in released.state_dict().items() if name not in plain.state_dict()}
    assert set(extra) == {f"vit.blocks.{block}.attn.relative_position_bias_table" for block in range(4)}
    assert all(value.shape == ((2 * 4 - 1) ** 2 + 3, 3) and not value.any() for value in extra.values())
    released.load(checkpoint)  # a second time, now that there are tables
    with torch.inference_mode():
        for one, other in zip(plain.eval()(IMAGES), released.eval()(IMAGES), strict=True):
            torch.testing.assert_close(one, other)


def test_at_518_px_they_are_as_many_as_the_config_says() -> None:
    with torch.device("meta"):
        counts = [
            sum(parameter.numel() for parameter in kind(arch="small", img_size=518).parameters())
            for kind in (DenseViT, RelPosDenseViT)
        ]
    assert counts[1] - counts[0] == 383_904


def test_attention_equals_mmsegs() -> None:
    beit = pytest.importorskip("mmseg.models.backbones.beit")
    theirs = beit.BEiTAttention(24, 3, window_size=(4, 4), bias=True)
    assert torch.equal(relative_positions((4, 4)), theirs.relative_position_index)
    assert torch.equal(relative_positions((2, 3)), beit.BEiTAttention(24, 3, (2, 3)).relative_position_index)
    vit = RelPosDenseViT(out_indices=(3,), **NARROW)
    ours: Any = vit.vit.blocks[0].attn
    torch.nn.init.normal_(ours.relative_position_bias_table)
    theirs.load_state_dict({**ours.state_dict(), "relative_position_index": theirs.relative_position_index})
    tokens = torch.randn(2, 17, 24)
    torch.testing.assert_close(ours(tokens), theirs(tokens))
    assert not torch.allclose(ours(tokens), DenseViT(out_indices=(3,), **NARROW).vit.blocks[0].attn(tokens))


def test_tables_are_trained_unless_frozen_or_unused() -> None:
    vit = RelPosDenseViT(out_indices=(2,), **NARROW)
    vit(IMAGES)[0].square().sum().backward()
    tables: list[Any] = [block.attn.relative_position_bias_table for block in vit.vit.blocks]
    assert all(table.grad.abs().sum() > 0 for table in tables[:3])
    assert not tables[3].requires_grad
    frozen = RelPosDenseViT(out_indices=(2,), frozen=True, **NARROW)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"20 patches were given to a RelPosDenseViT made for 16.*56x56"):
        RelPosDenseViT(out_indices=(3,), **NARROW)(torch.randn(1, 3, 56, 70))
    with pytest.raises(ValueError, match="reg_tokens=4"):
        RelPosDenseViT(out_indices=(3,), reg_tokens=4, **NARROW)
