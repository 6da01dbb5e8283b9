from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from proteus.checkpoints import CheckpointError
from proteus.models import NoTeacher, Teacher

TINY = dict(type="ViT", arch="tiny", img_size=56, embed_dim=24, depth=5, num_heads=3, interpolate_offset=0.0)


def teacher(layers: int, **options: Any) -> Teacher:
    torch.manual_seed(0)
    classifier = dict(type="LinearClassifier", num_classes=7, layers=layers)
    return Teacher(backbone={**TINY}, classifier=classifier, **options)


def images(side: int = 56) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layers", [1, 4])
def test_logits_are_timms_features_through_the_linear_layer(layers: int) -> None:
    frozen = teacher(layers)
    features, logits = frozen.classify(images())
    # The hub model: get_intermediate_layers(n, return_class_token=True), each through the final norm.
    intermediate = frozen.backbone.vit.get_intermediate_layers(images(), n=layers, return_prefix_tokens=True, norm=True)
    tokens = [prefix[:, 0] for _, prefix in intermediate] + [intermediate[-1][0].mean(1)]
    expected = torch.cat(tokens, 1) @ frozen.classifier.linear.weight.T + frozen.classifier.linear.bias
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(features.patches, frozen(images()).patches)
    torch.testing.assert_close(features.cls, frozen(images()).cls)


def test_the_classifier_is_frozen_and_stays_in_full_precision() -> None:
    frozen = teacher(4, dtype="bfloat16")
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert frozen.classifier.linear.weight.dtype == torch.float32
    _, logits = frozen.classify(images())
    assert logits.dtype == torch.float32
    assert not logits.requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(frozen.classify(images())[1], logits)


@pytest.mark.parametrize(
    ("arch", "backbone"),
    [
        ("regnety_002", dict(type="TimmBackbone", arch="regnety_002")),
        ("deit_tiny_patch16_224", dict(type="ViT", arch="tiny", patch_size=16, init_values=None)),
    ],
)
def test_one_file_of_timms_serves_backbone_and_classifier(tmp_path: Path, arch: str, backbone: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = timm.create_model(arch, num_classes=7).eval()
    file = str(tmp_path / f"{arch}.safetensors")
    save_file(model.state_dict(), file)
    classifier = dict(type="LinearClassifier", num_classes=7, layers=1, avgpool=False, checkpoint=file)
    frozen = Teacher(backbone={**backbone, "checkpoint": file}, classifier=classifier)
    with torch.no_grad():
        torch.testing.assert_close(frozen.classify(images(224))[1], model(images(224)), atol=1e-5, rtol=1e-4)


def test_wrong_classifier_is_reported_by_its_key(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(7, 3), "bias": torch.zeros(7)}, tmp_path / "head.safetensors")
    classifier = dict(type="LinearClassifier", num_classes=7, checkpoint=str(tmp_path / "head.safetensors"))
    with pytest.raises(CheckpointError, match=r"^classifier\.checkpoint: .*head\.safetensors holds a classifier"):
        Teacher(backbone={**TINY}, classifier=classifier)


def test_no_teacher_gives_nothing() -> None:
    none = NoTeacher(input_mean=(0.5,) * 3, input_std=(0.5,) * 3)
    assert none.embed_dim == 0
    assert none(images()).patches.shape == (2, 0, 0)
    assert list(none.parameters()) == []
    with pytest.raises(ValueError, match=r"set model\.teacher\.classifier"):
        none.classify(images())


def test_a_backbone_without_blocks_has_one_level() -> None:
    with pytest.raises(ValueError, match=r"layers=4, but TimmBackbone .* write layers=1"):
        Teacher(backbone=dict(type="TimmBackbone", arch="regnety_002"), classifier=dict(type="LinearClassifier"))
