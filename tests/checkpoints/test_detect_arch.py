import pytest
import timm

from proteus.checkpoints.detect_arch import describe, detect_arch
from proteus.models import ViT


@pytest.mark.parametrize(
    ("vit", "title", "words"),
    [
        (
            dict(arch="tiny", depth=2, img_size=56),
            "DINOv2 ViT-Ti/14",
            "ViT of width 192, 2 blocks, patch 14, 0 registers",
        ),
        (
            dict(arch="small", depth=1, img_size=56, reg_tokens=4),
            "DINOv2 ViT-S/14",
            "ViT of width 384, 1 blocks, patch 14, 4 registers",
        ),
        (
            dict(arch="tiny", depth=1, img_size=56, init_values=None),
            "plain ViT-Ti/14",
            "ViT of width 192, 1 blocks, patch 14, 0 registers, no LayerScale",
        ),
        (
            dict(arch="clip-base", depth=1, img_size=64, patch_size=16),
            "CLIP ViT-B/16",
            "CLIP ViT of width 768, 1 blocks, patch 16, 0 registers",
        ),
    ],
)
def test_architectures_are_detected(vit: dict, title: str, words: str) -> None:
    state = ViT(**vit).timm_state()
    shape = detect_arch(state)
    assert shape is not None
    assert shape.title == title
    assert describe(state) == words
    assert describe({f"module.{key}": value for key, value in state.items()}) == words


def test_gates_grid_and_classifier() -> None:
    model = timm.create_model(
        "vit_giant_patch14_dinov2", img_size=42, embed_dim=48, depth=1, num_heads=3, num_classes=7
    )
    shape = detect_arch(model.state_dict())
    assert shape is not None
    assert shape.swiglu
    assert shape.side == 3
    assert shape.classifier == 7
    assert not shape.mask_token


def test_cnn_is_not_recognised() -> None:
    state = timm.create_model("resnet10t").state_dict()
    assert detect_arch(state) is None
    assert describe(state) == f"{len(state)} tensors, no ViT"
