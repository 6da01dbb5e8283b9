from __future__ import annotations

import pytest
import torch
from torch import Tensor

from proteus.evaluation.token_regression import TokenRegression
from proteus.structures import Features

MIX = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def features(images: Tensor) -> Features:
    """A teacher with four channels, linear in the pixels."""
    tokens = images.flatten(2).transpose(1, 2)
    return Features(tokens.mean(1), tokens, (2, 2))


def images(count: int, seed: int) -> Tensor:
    return torch.randn(count, 6, 2, 2, generator=torch.Generator().manual_seed(seed))


def teacher(batch: Tensor) -> Features:
    given = features(batch)
    return Features(given.cls @ MIX + 1, given.patches @ MIX + 1, given.grid)


def test_a_linear_map_of_the_teachers_tokens_is_found_again() -> None:
    regression = TokenRegression(features, teacher, batch_size=7)
    regression.fit(images(64, 1))
    metrics = regression.measure(images(32, 2))
    for name in ("cls", "patch"):
        assert metrics[f"centered_cosine_{name}"] > 0.999
        assert metrics[f"unexplained_variance_{name}"] < 1e-3


def test_a_student_that_lacks_half_of_the_channels_leaves_their_variance() -> None:
    """The expected value is that of least squares on the images themselves."""

    def half(batch: Tensor) -> Features:
        given = features(batch)
        return Features(given.cls[:, :3], given.patches[..., :3], given.grid)

    regression = TokenRegression(half, teacher)
    regression.fit(images(2000, 1))
    fresh = images(2000, 2)
    found, wanted = half(fresh).patches.flatten(0, 1), teacher(fresh).patches.flatten(0, 1)
    found, wanted = found - found.mean(0), wanted - wanted.mean(0)
    left = wanted - found @ torch.linalg.lstsq(found, wanted).solution
    expected = (left.square().sum() / wanted.square().sum()).item()
    assert regression.measure(fresh)["unexplained_variance_patch"] == pytest.approx(expected, rel=0.02)
