from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge
from torch import Tensor

from proteus.models import Distiller, PHIStandardization, StandardizedMSELoss
from proteus.models.initialization import fit_heads
from proteus.models.initialization.least_squares import LeastSquares

TEACHER = dict(type="ViT", arch="tiny", img_size=28, embed_dim=64, depth=2, num_heads=4)
STUDENT = dict(type="ViT", arch="tiny", img_size=28, embed_dim=32, depth=2, num_heads=2, mask_token=True)


def images(count: int = 128) -> Tensor:
    coarse = torch.randn(count, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    return F.interpolate(2 * coarse, size=28, mode="bicubic")


@pytest.fixture
def model() -> Distiller:
    torch.manual_seed(0)
    mse: dict[str, Any] = dict(loss=dict(type="MSELoss"))
    objectives = dict(
        token=dict(type="TokenObjective", head=dict(type="DistillHead"), **mse),
        feature=dict(
            type="FeatureObjective", cls_term="token", head=dict(type="DistillHead", layers=("linear", "gelu")), **mse
        ),
        patch=dict(type="PatchObjective", head=dict(type="DistillHead"), **mse),
    )
    built = Distiller(dict(type="Teacher", backbone=TEACHER, dtype="float32"), STUDENT, objectives)
    built.student.mask_token.data.normal_()
    return built.eval()


def ridge(inputs: Tensor, outputs: Tensor) -> Tensor:
    """scikit-learn's predictions, with the ridge that generalised cross-validation finds."""
    sums = LeastSquares(inputs.shape[1], outputs.shape[1], inputs.device)
    sums.add(inputs, outputs)
    strength = sums.best_ridge() * (inputs - inputs.mean(0)).square().sum(0).mean().item()
    fitted = Ridge(alpha=strength).fit(inputs.double(), outputs.double())
    return torch.from_numpy(fitted.predict(inputs.double())).float()


@torch.no_grad()
def test_a_head_of_clean_tokens_is_the_ridge_regression(model: Distiller) -> None:
    head = model.objectives["token"].head
    before = head[0](model.student(images()).cls)
    assert fit_heads(model, images(), batch_size=50) == ["token", "patch"]
    torch.testing.assert_close(head[1](before), ridge(before, model.teacher(images()).cls), atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_a_head_of_masked_patches_is_fitted_on_masked_ones(model: Distiller) -> None:
    masks = torch.rand(128, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    head = model.objectives["patch"].head
    before = head[0](model.student(images(), masks).patches[masks])
    fit_heads(model, images(), batch_size=128)
    wanted = ridge(before, model.teacher(images()).patches[masks])
    torch.testing.assert_close(head[1](before), wanted, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_a_head_of_all_patches_of_the_masked_view_is_fitted_on_all(model: Distiller) -> None:
    model.objectives["patch"].tokens = "all"
    masks = torch.rand(128, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    head = model.objectives["patch"].head
    before = head[0](model.student(images(), masks).patches.flatten(0, 1))
    fit_heads(model, images(), batch_size=128)
    wanted = ridge(before, model.teacher(images()).patches.flatten(0, 1))
    torch.testing.assert_close(head[1](before), wanted, atol=1e-3, rtol=1e-3)


def test_a_head_of_standardised_tokens_is_left(model: Distiller) -> None:
    loss = StandardizedMSELoss()
    loss.set_channels(64)
    model.objectives["token"].loss = loss
    before = model.objectives["token"].head[1].weight.clone()
    assert fit_heads(model, images(16)) == ["patch"]
    assert torch.equal(model.objectives["token"].head[1].weight, before)


def test_heads_wait_for_the_statistics_of_a_standardization(model: Distiller) -> None:
    model.standardization = PHIStandardization(64, images=0)
    before = model.objectives["token"].head[1].weight.clone()
    assert fit_heads(model, images(16)) == []
    assert torch.equal(model.objectives["token"].head[1].weight, before)
    model.standardization.fit([model.teacher(images())])
    assert fit_heads(model, images(16)) == ["token", "patch"]


def test_a_head_that_does_not_end_in_a_linear_layer_is_left(model: Distiller) -> None:
    linear = model.objectives["feature"].head[0]
    before = linear.weight.clone()
    fit_heads(model, images())
    assert torch.equal(linear.weight, before)
