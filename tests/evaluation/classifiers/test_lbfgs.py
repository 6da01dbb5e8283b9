import pytest
import torch
from torch import Tensor

from proteus.evaluation.classifiers.lbfgs import minimise


class Valleys:
    """Rosenbrock's function in six dimensions, steeper for each problem; the minimum is 0 at (1, ..., 1)."""

    def __init__(self, first: int = 0) -> None:
        self.first = first
        self.evaluated: list[list[int]] = []

    def __call__(self, points: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        self.evaluated.append(which.tolist())
        points = points.detach().requires_grad_()
        steep = 10.0 * (self.first + which + 1)[:, None]
        now, later = points[:, :-1], points[:, 1:]
        values = (steep * (later - now * now) ** 2 + (1 - now) ** 2).sum(dim=1)
        (gradients,) = torch.autograd.grad(values.sum(), points)
        return values.detach().double(), gradients


def test_a_batch_gives_the_minima_of_single_problems() -> None:
    start = torch.linspace(-1.5, 0.5, 60, dtype=torch.float64).reshape(10, 6)
    together = minimise(Valleys(), start, 500, 1e-9)
    assert together.converged.all()
    torch.testing.assert_close(together.points, torch.ones(10, 6, dtype=torch.float64), rtol=0, atol=1e-7)
    for index in (0, 4, 9):
        alone = minimise(Valleys(index), start[index : index + 1], 500, 1e-9)
        assert alone.iterations[0] == together.iterations[index]
        torch.testing.assert_close(alone.points[0], together.points[index])


def test_finished_problems_are_not_evaluated() -> None:
    objective = Valleys()
    finished: list[int] = []
    # Number 2 starts at its minimum.
    start = torch.full((4, 6), -1.2, dtype=torch.float64)
    start[2] = 1
    found = minimise(objective, start, 500, 1e-9, on_done=finished.append)
    assert found.iterations[2] == 0
    assert objective.evaluated[1] == [0, 1, 3]
    assert found.evaluations == len(objective.evaluated)
    assert len(objective.evaluated[-1]) == 1
    assert finished[0] == 1
    assert finished[-1] == 4
    assert finished == sorted(set(finished))


def test_the_iteration_limit_is_kept_and_reported() -> None:
    start = torch.full((3, 6), -1.2, dtype=torch.float64)
    found = minimise(Valleys(), start, 5, 1e-9)
    assert found.iterations.tolist() == [5, 5, 5]
    assert not found.converged.any()
    assert (found.values < Valleys()(start, torch.arange(3))[0]).all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_line_search_finds_the_scale(scale: float) -> None:
    """A parabola that is far too flat or steep for a first step of length 1."""

    def parabola(points: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        return scale / 2 * (points - 3).square().sum(dim=1), scale * (points - 3)

    found = minimise(parabola, torch.zeros(1, 4, dtype=torch.float64), 100, scale * 1e-9, value_tol=0)
    torch.testing.assert_close(found.points, torch.full((1, 4), 3.0, dtype=torch.float64))


def test_the_line_search_backs_off_from_nan() -> None:
    def barrier(points: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """x - log x, NaN for x < 0; its minimum is at 1."""
        return (points - points.log()).sum(dim=1), 1 - 1 / points

    found = minimise(barrier, torch.full((1, 1), 40.0, dtype=torch.float64), 100, 1e-10)
    assert found.converged.all()
    assert found.points.item() == pytest.approx(1)


def test_problems_without_a_minimum_do_not_converge() -> None:
    wrong_sign = minimise(
        lambda points, which: (points.square().sum(dim=1), -2 * points), torch.ones(1, 2).double(), 9, 1e-9
    )
    not_a_number = minimise(
        lambda points, which: (points.sum(dim=1) * torch.nan, points), torch.ones(1, 2).double(), 9, 1e-9
    )
    assert not wrong_sign.converged.any()
    assert not not_a_number.converged.any()
