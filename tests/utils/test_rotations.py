import pytest
import torch

from proteus.utils.rotations import hadamard, spreading_rotation


@pytest.mark.parametrize("order", [1, 2, 12, 16, 20, 28, 36, 48, 76, 192, 384])
def test_hadamard_matrices(order: int) -> None:
    matrix = hadamard(order)
    assert matrix is not None
    assert set(matrix.unique().tolist()) <= {-1.0, 1.0}
    assert torch.equal(matrix @ matrix.T, order * torch.eye(order, dtype=torch.float64))


@pytest.mark.parametrize("order", [0, 3, 6, 50, 92])
def test_orders_without_a_construction(order: int) -> None:
    assert hadamard(order) is None


@pytest.mark.parametrize("size", [1, 2, 3, 12, 25, 50, 92])
def test_variances_become_equal(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    variances = torch.rand(size, generator=generator, dtype=torch.float64) ** 8 * 100
    variances[0] = 0  # features of low rank
    rotation = spreading_rotation(variances)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(size, dtype=torch.float64))
    found = (rotation @ torch.diag(variances) @ rotation.T).diagonal()
    torch.testing.assert_close(found, variances.mean().expand(size))
