import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from proteus.models import Teacher, ViT
from proteus.models.distillers.building import build_preprocessor, build_teacher

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


def test_the_pass_is_in_inference_mode_and_its_outputs_are_not() -> None:
    frozen = teacher(classifier=dict(type="LinearClassifier", num_classes=3, layers=2))
    modes: list[bool] = []
    for block in frozen.backbone.vit.blocks:
        block.register_forward_hook(lambda *_: modes.append(torch.is_inference_mode_enabled()))
    features = frozen(pixels())
    again, logits = frozen.classify(pixels())
    assert modes == [True] * 4
    assert not any(tensor.is_inference() for tensor in (features.cls, features.patches, again.patches, logits))
    # A squared error saves its target for the backward pass.
    guess = torch.zeros_like(features.patches, requires_grad=True)
    functional.mse_loss(guess, features.patches).backward()
    torch.testing.assert_close(guess.grad, -2 * features.patches / features.patches.numel())


def test_its_outputs_are_its_own() -> None:
    frozen = teacher()
    kept = []
    frozen.backbone.register_forward_hook(lambda module, args, output: kept.append(output.patches))
    features = frozen(pixels())
    # What a CUDA graph returned is overwritten by the next pass.
    with torch.inference_mode():
        kept[0].zero_()
    assert features.patches.abs().max() > 0.1


def test_not_a_number_passes_through() -> None:
    images = pixels()
    images[1] = torch.nan
    features = teacher()(images)
    assert features.patches[0].isfinite().all()
    assert features.patches[1].isnan().all()


def counting(graphs: list[int]) -> Callable[..., Any]:
    """A compiler that changes nothing, and notes the batch size that it compiles for."""

    def backend(graph: Any, inputs: list[Any]) -> Any:
        graphs.append(next(value.shape[0] for value in inputs if isinstance(value, Tensor) and value.ndim == 4))
        return graph.forward

    return backend


def test_each_batch_size_is_compiled_once_and_apart() -> None:
    torch._dynamo.reset()
    graphs: list[int] = []
    plain, quick = teacher(), teacher(compile=dict(backend=counting(graphs)))
    for count in (4, 3, 4, 3, 4):
        images = torch.cat([pixels(), pixels()])[:count]
        assert torch.equal(quick(images).patches, plain(images).patches)
    assert graphs == [4, 3]


def test_several_blocks_are_compiled_too_and_shapes_alone_are_not() -> None:
    torch._dynamo.reset()
    graphs: list[int] = []
    classifier = dict(type="LinearClassifier", num_classes=3, layers=2)
    plain = teacher(classifier=classifier)
    quick = teacher(classifier=classifier, compile=dict(backend=counting(graphs)))
    torch.testing.assert_close(quick.classify(pixels())[1], plain.classify(pixels())[1])
    assert graphs == [2]
    with torch.device("meta"):
        shapes = Teacher(backbone={**TINY}, compile=dict(backend=counting(graphs)))(torch.empty(2, 3, 56, 56))
    assert shapes.patches.shape == (2, 16, 24)
    assert graphs == [2]


def test_a_step_that_is_compiled_as_a_whole_takes_it_along() -> None:
    torch._dynamo.reset()
    frozen = teacher()
    weight = torch.ones(24, requires_grad=True)

    def step(images: Tensor) -> Tensor:
        return functional.mse_loss(weight.expand(2, 16, 24), frozen(images).patches)

    loss = torch.compile(step, backend="aot_eager")(pixels())
    torch.testing.assert_close(loss, step(pixels()))
    loss.backward()
    assert weight.grad is not None


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [True, dict(mode="max-autotune-no-cudagraphs")])
def test_compiled_for_real_it_says_the_same(wanted: Any) -> None:
    torch._dynamo.reset()
    plain, quick = teacher(), teacher(compile=wanted)
    torch.testing.assert_close(quick(pixels()).patches, plain(pixels()).patches, atol=1e-5, rtol=0)
    assert not quick(pixels()[:1]).cls.is_inference()


@pytest.mark.parametrize("wanted", [dict(fullgraf=True), "yes", 1])
def test_what_torch_compile_does_not_take_is_refused(wanted: Any) -> None:
    with pytest.raises(ValueError, match=r"teacher\.compile"):
        teacher(compile=wanted)


@pytest.mark.parametrize(
    ("backbone", "size", "remedy"),
    [
        (TINY, 57, "write 56 or 70"),
        (TINY, 9, "write 14"),
        (
            dict(type="TimmBackbone", arch="test_vit", img_size=64, dynamic_img_size=False),
            70,
            r"write 64, or model\.teacher\.backbone\.img_size for another size as well",
        ),
        (dict(type="TimmBackbone", arch="test_vit", img_size=64, dynamic_img_size=True), 70, "write 64 or 80"),
    ],
)
def test_a_size_that_the_backbone_does_not_take_is_refused(backbone: dict[str, Any], size: int, remedy: str) -> None:
    config = dict(type="Teacher", backbone=dict(backbone), img_size=size)
    words = rf"^model\.teacher\.img_size={size}: model\.teacher\.backbone does not take images of this size; {remedy}$"
    with pytest.raises(ValueError, match=words):
        build_teacher(config, build_preprocessor(None))


def test_a_cnn_takes_any_size() -> None:
    config = dict(type="Teacher", backbone=dict(type="TimmBackbone", arch="test_resnet"), img_size=57)
    assert build_teacher(config, build_preprocessor(None)).img_size == 57
