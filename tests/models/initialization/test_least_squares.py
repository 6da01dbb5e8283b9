import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from proteus.models.initialization.least_squares import RIDGE, LeastSquares

CPU = torch.device("cpu")


def rows(inputs: int, outputs: int, count: int = 200) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, inputs, generator=generator) + 2
    y = x @ torch.randn(inputs, outputs, generator=generator) + torch.randn(count, outputs, generator=generator)
    return x, y, torch.rand(count, generator=generator)


def test_the_solution_is_scikit_learns_ridge() -> None:
    x, y, weights = rows(6, 3)
    fit = LeastSquares(6, 3, CPU)
    for part in (slice(0, 70), slice(70, 200)):
        fit.add(x[part], y[part], weights[part])
    centred = x - torch.from_numpy(np.average(x.numpy(), axis=0, weights=weights.numpy()))
    ridge = RIDGE * (weights[:, None] * centred.square()).sum(0).mean().item()
    wanted = Ridge(alpha=ridge).fit(x.double(), y.double(), sample_weight=weights.double())
    weight, bias = fit.solve()
    torch.testing.assert_close(weight.double(), torch.from_numpy(wanted.coef_), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(bias.double(), torch.from_numpy(wanted.intercept_), atol=1e-4, rtol=1e-4)


def test_some_of_the_inputs_are_solved_as_if_there_were_no_others() -> None:
    x, y, _ = rows(6, 3)
    fit, alone = LeastSquares(6, 3, CPU), LeastSquares(2, 3, CPU)
    fit.add(x, y)
    alone.add(x[:, [1, 4]], y)
    for found, wanted in zip(fit.solve(torch.tensor([1, 4])), alone.solve(), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-2, rtol=1e-2)  # the ridge is a share of all inputs' variance


@pytest.mark.parametrize(("noise", "between"), [(0.0, (1e-4, 3e-2)), (4.0, (3e-2, 9.0))])
def test_the_best_ridge_has_the_least_generalised_error(noise: float, between: tuple[float, float]) -> None:
    x, y, _ = rows(12, 3, count=30)
    y = y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    fit = LeastSquares(12, 3, CPU)
    fit.add(x, y)
    inputs, outputs = x.double().numpy(), y.double().numpy()
    centred = inputs - inputs.mean(0)

    def generalised(ridge: float) -> float:
        strength = ridge * (centred**2).sum(0).mean()
        left = ((Ridge(alpha=strength).fit(inputs, outputs).predict(inputs) - outputs) ** 2).sum()
        hat = centred @ np.linalg.solve(centred.T @ centred + strength * np.eye(12), centred.T)
        return left / (30 - 1 - np.trace(hat)) ** 2

    wanted = min(np.logspace(-4, 1, 21), key=generalised)
    assert between[0] < wanted < between[1]
    assert fit.best_ridge() == pytest.approx(wanted)


def test_the_groups_that_explain_the_outputs_stay() -> None:
    x, _, _ = rows(8, 1)
    # Group 1 alone explains more than 0 and 2 do each, but with both of these there is nothing left for it.
    x[:, 2:4] = x[:, 0:2] + x[:, 4:6] + 0.1 * x[:, 2:4]
    fit = LeastSquares(8, 2, CPU)
    fit.add(x, torch.stack([x[:, 0] + x[:, 4], x[:, 1] - x[:, 5]], 1))
    assert fit.best_groups(2, 2).tolist() == [0, 1, 4, 5]
    assert fit.best_groups(2, 4).tolist() == list(range(8))
