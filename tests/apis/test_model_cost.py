import copy

import pytest
import torch
from mmengine.config import Config
from torch import Tensor

from proteus.apis.model_cost import BFLOAT16_SHARE, ProbeCost, StepCost, probe_cost, step_cost
from proteus.models import Distiller, LinearProbe

SIZES = {"type": "ViT", "arch": "tiny", "img_size": 112, "depth": 3}
MODEL = {
    "teacher": {"type": "Teacher", "backbone": {**SIZES, "embed_dim": 192, "num_heads": 3}},
    "student": {**SIZES, "embed_dim": 96, "num_heads": 3, "mask_token": True},
    "objectives": {
        "token": {"type": "TokenObjective"},
        "feature": {"type": "FeatureObjective", "cls_term": "token"},
        "patch": {"type": "PatchObjective"},
    },
}


@pytest.fixture(scope="module")
def cost() -> StepCost:
    with torch.device("meta"):
        model = Distiller(**copy.deepcopy(MODEL))
    return step_cost(model, Config({"train_dataloader": {"batch_size": 64, "collate_fn": {"probability": 0.5}}}))


def vit_flops(width: int, depth: int, patches: int) -> int:
    """Two a multiply-add: patch embedding; qkv, projection and MLP (12 D^2 a token); both attention products."""
    tokens = patches + 1
    return 2 * (patches * 3 * 14 * 14 * width + depth * (12 * tokens * width**2 + 2 * tokens**2 * width))


def test_flops_computed_by_hand(cost: StepCost) -> None:
    teacher, student = vit_flops(192, 3, 64), vit_flops(96, 3, 64)
    assert cost.teacher_flops == pytest.approx(teacher, rel=1e-3)
    assert cost.student_flops == pytest.approx(student, rel=1e-3)
    # Clean images and half as many masked ones, each forward once and backward twice; heads on all tokens, and on the
    # masked half of the masked half.
    heads = 2 * (1 + 64 + 16) * 96 * 192
    embedding = 2 * 64 * 3 * 14 * 14 * 96  # nobody asks for the gradient of the images
    assert cost.step_flops == pytest.approx(teacher + 3 * (1.5 * student + heads) - 1.5 * embedding, rel=0.02)


def test_parameters(cost: StepCost) -> None:
    model = Distiller(**copy.deepcopy(MODEL))
    assert cost.teacher_parameters == sum(p.numel() for p in model.teacher.parameters())
    assert cost.student_parameters == sum(p.numel() for p in model.student.parameters())
    assert cost.trained_parameters == sum(p.numel() for p in model.parameters())
    assert cost.trained_parameters - cost.student_parameters == 3 * (2 * 96 + 96 * 192 + 192)


def kept_bytes(model: Distiller, count: int, bfloat16: bool = False, side: int = 112) -> int:
    """What autograd really keeps in a step of ``count`` images, each storage once, parameters and images left out."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, side, side, generator=generator)
    inputs = {}
    if model.needs_masks:
        masks = torch.zeros(count // 2, 64, dtype=torch.bool)
        masks[:, ::2] = True
        inputs = {"masks": masks, "mask_indices": masks.flatten().nonzero()[:, 0]}
    seen = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), images]}
    alive, total = [], 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal total
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            alive.append(tensor)
            total += storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        model(images, **inputs, mode="loss")
    return total


def test_activations_against_autograd(cost: StepCost) -> None:
    model = Distiller(**copy.deepcopy(MODEL))
    # The difference of two batches has none of what does not grow with the batch, such as the weights in bfloat16.
    full, low = ((kept_bytes(model, 8, low) - kept_bytes(model, 4, low)) / 4 for low in (False, True))
    assert cost.activation_bytes == pytest.approx(full, rel=0.1)
    # The constant is a ViT-S's; in narrow models the parts that stay float32 weigh a little more.
    assert low / full == pytest.approx(BFLOAT16_SHARE, rel=0.15)


@pytest.mark.parametrize("student", [{"arch": "resnet10t"}, {"arch": "swin_tiny_patch4_window7_224", "img_size": 64}])
def test_square_maps_are_kept(student: dict) -> None:
    """Feature maps of a CNN at square sizes, and attention that timm computes without a fused kernel."""
    teacher = {"type": "Teacher", "backbone": MODEL["teacher"]["backbone"], "img_size": 112}
    config = {"student": {"type": "TimmBackbone", **student}, "objectives": {"token": {"type": "TokenObjective"}}}
    with torch.device("meta"):
        outline = Distiller(copy.deepcopy(teacher), **copy.deepcopy(config))
    loader = {"batch_size": 4, "collate_fn": {"probability": 0.0}}
    counted = step_cost(outline, Config({"train_dataloader": loader}), (64, 64)).activation_bytes
    model = Distiller(copy.deepcopy(teacher), **copy.deepcopy(config))
    kept = (kept_bytes(model, 4, side=64) - kept_bytes(model, 2, side=64)) / 2
    assert counted == pytest.approx(kept, rel=0.03)


def test_copies_of_weights_under_autocast(cost: StepCost) -> None:
    model = Distiller(**copy.deepcopy(MODEL))
    # What does not grow with the batch.
    fixed = 2 * kept_bytes(model, 4, bfloat16=True) - kept_bytes(model, 8, bfloat16=True)
    assert fixed == 2 * cost.copied_parameters
    assert 2 * kept_bytes(model, 4, bfloat16=False) == kept_bytes(model, 8, bfloat16=False)


def test_memory(cost: StepCost) -> None:
    """Weights, gradients and two moments in float32, the teacher once, activations for every image."""
    fixed = 16 * cost.trained_parameters + 4 * cost.teacher_parameters
    assert cost.memory(10, low_precision=False) == pytest.approx(fixed + 10 * cost.activation_bytes)
    assert cost.memory(10, low_precision=True) < cost.memory(10, low_precision=False)


def test_no_masked_image() -> None:
    with torch.device("meta"):
        model = Distiller(**{**copy.deepcopy(MODEL), "objectives": {"token": {"type": "TokenObjective"}}})
    bare = step_cost(model, Config({"train_dataloader": {"batch_size": 4, "collate_fn": {"probability": 0.0}}}))
    assert bare.step_flops < bare.teacher_flops + 3.2 * bare.student_flops


def test_shifted_views_are_smaller_than_their_crops(cost: StepCost) -> None:
    with torch.device("meta"):
        model = Distiller(**copy.deepcopy(MODEL))
    crop = {"type": "LoadRandomResizedCrop", "scale": 140}
    loader = {"batch_size": 64, "dataset": {"type": "ImageFolder", "pipeline": [crop]}}
    shifted = {**MODEL, "data_preprocessor": {"type": "ShiftDataPreprocessor", "shift": 2}}  # by up to 28 px
    assert step_cost(model, Config({"model": shifted, "train_dataloader": loader})).step_flops == cost.step_flops


def test_a_linear_probe_by_hand() -> None:
    with torch.device("meta"):
        probe = LinearProbe({**SIZES, "embed_dim": 96, "num_heads": 3}, 10, layers=(1, 3), learning_rates=(0.1, 0.2))
    cost = probe_cost(probe, Config({"train_dataloader": {"dataset": {}}}))
    # Two heads of each input: one and three cls tokens, without and with the mean patch token.
    weights = 2 * 10 * 96 * (1 + 2 + 3 + 4)
    parameters = sum(parameter.numel() for parameter in probe.backbone.parameters())
    assert cost == ProbeCost(parameters, weights + 8 * 10, 8, cost.backbone_flops, 2 * 2 * weights)
    assert cost.backbone_flops == pytest.approx(vit_flops(96, 3, 64), rel=1e-3)
    assert cost.memory == 4 * parameters + 12 * (weights + 80)
