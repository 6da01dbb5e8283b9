from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from proteus.evaluation.online.effective_rank import effective_rank


def test_an_even_spread_over_r_directions_is_r() -> None:
    corners = torch.cat([torch.eye(5), -torch.eye(5)])  # centred, equally far in five directions
    assert effective_rank(corners) == pytest.approx(5)
    assert effective_rank(torch.cat([corners, torch.zeros(10, 3)], dim=1) + 7) == pytest.approx(5)


def test_uneven_spread_by_hand() -> None:
    # Singular values 3 sqrt 2 and sqrt 2: shares 3/4 and 1/4.
    features = torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    assert effective_rank(features) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))


@pytest.mark.parametrize("shape", [(200, 30), (30, 200)])
def test_equals_the_definition_by_an_svd(shape: tuple[int, int]) -> None:
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.01, 3, shape[1]) + 5
    exact = features.double().numpy()
    values = np.linalg.svd(exact - exact.mean(0), compute_uv=False)
    values = values[values > 1e-9]
    shares = values / values.sum()
    assert effective_rank(features) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-6)


def test_collapse() -> None:
    line = torch.linspace(0, 1, 50)[:, None] * torch.randn(1, 64) + 3
    assert effective_rank(line) == pytest.approx(1, abs=0.01)
    assert effective_rank(torch.randn(1, 64).expand(50, 64)) == 0


def test_not_finite_and_too_few() -> None:
    assert math.isnan(effective_rank(torch.tensor([[1.0, math.nan], [0, 1]])))
    with pytest.raises(ValueError, match=r"two features or more, .*\(1, 4\)"):
        effective_rank(torch.zeros(1, 4))
