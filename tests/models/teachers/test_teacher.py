import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from proteus.models import Teacher, ViT

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5)
TINY = dict(type="ViT", arch="tiny", img_size=56, embed_dim=24, depth=2, num_heads=3, interpolate_offset=0.0)


def teacher(**options: Any) -> Teacher:
    torch.manual_seed(0)
    return Teacher(backbone={**TINY}, **options)


def pixels(height: int = 56, width: int = 56) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def normalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def test_it_is_frozen_and_stays_in_eval_mode() -> None:
    frozen = teacher()
    assert frozen.train() is frozen
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    features = frozen(pixels().requires_grad_())
    assert not features.cls.requires_grad
    assert not features.patches.requires_grad


def test_equal_statistics_leave_images_as_they_are() -> None:
    frozen = teacher(input_mean=MEAN, input_std=STD)
    images = normalised(pixels(), MEAN, STD)
    expected = frozen.backbone(images)
    assert torch.equal(frozen(images).patches, expected.patches)
    assert frozen(images).grid == (4, 4)


def test_other_statistics_and_size_equal_images_prepared_for_it_directly() -> None:
    frozen = teacher(mean=HALVES, std=HALVES, img_size=84, input_mean=MEAN, input_std=STD)
    frozen.backbone.vit.pos_embed.data.normal_()
    shown = pixels()
    direct = functional.interpolate(shown, size=(84, 84), mode="bicubic", antialias=True)
    expected = frozen.backbone(normalised(direct, HALVES, HALVES))
    found = frozen(normalised(shown, MEAN, STD))
    torch.testing.assert_close(found.cls, expected.cls, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.patches, expected.patches, atol=1e-4, rtol=0)
    assert found.grid == (6, 6)
    with_students_statistics = frozen.backbone(normalised(direct, MEAN, STD))
    assert (found.patches - with_students_statistics.patches).abs().max() > 1e-2


@pytest.mark.parametrize(("height", "width"), [(56, 84), (84, 56), (112, 112)])
def test_images_of_another_shape_are_resized_too(height: int, width: int) -> None:
    assert teacher(img_size=84)(pixels(height, width)).grid == (6, 6)


def test_without_a_size_images_keep_theirs() -> None:
    assert teacher()(pixels(56, 84)).grid == (4, 6)
    assert teacher().grid_for(112) == (8, 8)
    assert teacher(img_size=84).grid_for(112) == (6, 6)


def test_a_low_precision_teacher_answers_in_float32() -> None:
    full, low = teacher(dtype="float32"), teacher(dtype="bfloat16")
    assert {parameter.dtype for parameter in low.parameters()} == {torch.bfloat16}
    assert low.scale.dtype == torch.float32
    found = low(pixels())
    assert (found.cls.dtype, found.patches.dtype) == (torch.float32, torch.float32)
    difference = (found.patches - full(pixels()).patches).abs().max()
    assert 0 < difference < 0.2  # bfloat16 has three digits, and features are of order 1


def test_auto_is_float32_without_a_gpu() -> None:
    assert {parameter.dtype for parameter in teacher(dtype="auto").parameters()} == {torch.float32}


def test_autocast_round_the_step_does_not_reach_it() -> None:
    frozen = teacher(dtype="float32")
    expected = frozen(pixels())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(frozen(pixels()).patches, expected.patches)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match=r"teacher\.dtype='fp16': write 'auto', 'float32', 'bfloat16' or 'float16'"):
        teacher(dtype="fp16")


def test_a_copy_is_the_same_object() -> None:
    frozen = teacher()
    assert copy.deepcopy(frozen) is frozen
    assert copy.deepcopy({"model": [frozen]})["model"][0] is frozen


def test_on_the_meta_device_it_gives_shapes() -> None:
    with torch.device("meta"):
        frozen = Teacher(backbone={**TINY}, img_size=84)
        features = frozen(torch.empty(2, 3, 56, 56))
    assert isinstance(frozen.backbone, ViT)
    assert features.patches.is_meta
    assert features.patches.shape == (2, 36, 24)
