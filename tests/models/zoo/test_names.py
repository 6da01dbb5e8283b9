"""Names of models."""

from __future__ import annotations

import pytest

import proteus
from proteus.models.zoo import find_model, list_models
from proteus.structures import UserError


def test_list_by_role_and_pattern() -> None:
    assert list_models(role="student") == ["vit_base", "vit_large", "vit_small", "vit_tiny"]
    teachers = list_models(role="teacher")
    assert {"dinov2_vitb14", "dinov3_vitl16", "clip_vitl14", "siglip2_vitb16", "packaged"} <= set(teachers)
    assert not set(teachers) & {"vit_base"}
    assert list_models("dinov2_vit?14") == ["dinov2_vitb14", "dinov2_vitg14", "dinov2_vitl14", "dinov2_vits14"]
    assert list_models() == sorted([*teachers, *list_models(role="student")])
    assert proteus.list_models is list_models


def test_timms_models_are_listed_by_prefix() -> None:
    assert "timm/resnet18" in list_models("timm/resnet18*", role="student")
    assert list_models("timm/resnet18", role="teacher") == []
    assert "timm/resnet18.a1_in1k" in list_models("timm/resnet18*", role="teacher")
    assert not any(name.startswith("timm/") for name in list_models())


@pytest.mark.parametrize("name", ["timm/vit_base_patch14_dinov2.lvd142m", "vit_base_patch14_dinov2.lvd142m"])
def test_timms_record_equals_the_known_one(name: str) -> None:
    known, record = find_model("dinov2_vitb14"), find_model(name)
    assert record.name == "timm/vit_base_patch14_dinov2.lvd142m"
    for fact in ("architecture", "patch_size", "img_size", "width", "depth", "params", "mean", "std", "licence"):
        assert getattr(record, fact) == getattr(known, fact)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dinov2_vitb15", r"unknown model 'dinov2_vitb15'; nearest: dinov2_vitb14"),
        ("torchvision/resnet18", r"unknown model 'torchvision/resnet18'; nearest: timm/resnet18\. "),
        ("timm/resnet5", r"timm/resnet5: .*nearest: timm/resnet50"),
        ("timm/test_vit.x", r"timm/test_vit.x: timm does not know this tag; it has: test_vit.r160_in1k"),
    ],
)
def test_unknown_name_suggests_the_nearest(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        find_model(name)
    assert "\n" not in str(caught.value)


def test_unknown_role() -> None:
    with pytest.raises(UserError, match="role is 'pupil'; write 'teacher', 'student'"):
        list_models(role="pupil")  # type: ignore[arg-type]
