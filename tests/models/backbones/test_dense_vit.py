from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from proteus.models import DenseViT, ViT
from proteus.structures import DataError

NARROW: dict[str, Any] = {"arch": "tiny", "img_size": 56, "embed_dim": 24, "depth": 4, "num_heads": 3}


def images(height: int, width: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_levels_at_518_px_equal_transformers(tmp_path: Path) -> None:
    """Positions of 16x16 patches, as a student at 224 px has them, at 37x37."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=3, image_size=224, patch_size=14
    )
    model = transformers.Dinov2Model(config).eval()
    model.save_pretrained(tmp_path)
    narrow = {"embed_dim": 48, "depth": 3, "num_heads": 3, "interpolate_offset": 0.0}
    for img_size in (224, 518):  # interpolated at each pass, and once and for all when the file is read
        dense = DenseViT((0, 2), arch="small", img_size=img_size, checkpoint=tmp_path / "model.safetensors", **narrow)
        with torch.inference_mode():
            hidden = model(images(518, 518, 1), output_hidden_states=True).hidden_states
            maps = dense.eval()(images(518, 518, 1))
        for found, expected in zip(maps, (hidden[1], hidden[3]), strict=True):
            assert found.shape == (1, 48, 37, 37)
            torch.testing.assert_close(found, expected[:, 1:].transpose(1, 2).unflatten(2, (37, 37)), atol=1e-4, rtol=0)


def test_metas_offset_at_518_px_is_what_a_plain_resize_by_its_scale_gives(tmp_path: Path) -> None:
    torch.manual_seed(0)
    student = ViT(**{**NARROW, "img_size": 224})
    save_file(student.timm_state(), tmp_path / "student.safetensors")
    dense = DenseViT((3,), checkpoint=tmp_path / "student.safetensors", **{**NARROW, "img_size": 518})
    positions = student.vit.pos_embed[:, 1:].unflatten(1, (16, 16)).permute(0, 3, 1, 2)
    scale = 37.1 / 16
    resized = torch.nn.functional.interpolate(positions, scale_factor=(scale, scale), mode="bicubic")
    torch.testing.assert_close(dense.vit.pos_embed[:, 1:], resized.flatten(2).transpose(1, 2))
    assert torch.equal(dense.vit.pos_embed[:, :1], student.vit.pos_embed[:, :1])


def test_frozen_is_frozen() -> None:
    dense = DenseViT((0, 3), frozen=True, drop_path_rate=0.5, **NARROW)
    around = torch.nn.Sequential(dense).train()
    assert around.training
    assert not any(module.training for module in dense.modules())
    maps = dense(images(56, 56))
    assert not any(map_.requires_grad for map_ in maps)
    assert torch.equal(maps[1], dense(images(56, 56))[1])  # drop path would differ


def test_crops_that_do_not_fit_are_refused_in_training_also_if_frozen() -> None:
    for frozen in (False, True):
        dense = DenseViT((3,), frozen=frozen, **NARROW)
        around = torch.nn.Sequential(dense)
        for _ in range(2):
            with pytest.raises(DataError, match="images of 51x70 px do not divide into patches"):
                around.train()(images(51, 70))
            assert around.eval()(images(51, 70))[0].shape[-2:] == (4, 5)


def test_every_parameter_that_is_trained_gets_a_gradient() -> None:
    for options in ({"out_indices": (0, 2)}, {"out_indices": (1, 3), "final_norm": True}, {"out_indices": (-1,)}):
        dense = DenseViT(**options, **NARROW)  # type: ignore[arg-type]
        sum(map_.square().sum() for map_ in dense(images(56, 56))).backward()  # type: ignore[union-attr]
        with_gradient = {name for name, parameter in dense.named_parameters() if parameter.grad is not None}
        assert with_gradient == {name for name, parameter in dense.named_parameters() if parameter.requires_grad}
        assert "vit.cls_token" in with_gradient
        assert ("vit.norm.weight" in with_gradient) == bool(options.get("final_norm"))


def test_center_padding_is_even_and_leaves_what_divides_alone() -> None:
    dense = DenseViT((3,), center_padding=True, **NARROW).eval()
    assert dense.channels == (24,)
    with torch.inference_mode():
        (found,) = dense(images(51, 70))
        (expected,) = dense(torch.nn.functional.pad(images(51, 70), (0, 0, 2, 3)))
        assert found.shape[-2:] == (4, 5)
        assert torch.equal(found, expected)
        with pytest.raises(ValueError, match="images of 51x70 px do not divide into patches of 14 px"):
            DenseViT((3,), **NARROW)(images(51, 70))
