import pytest
import torch

from proteus.utils.rotations import hadamard, spreading_rotation


@pytest.mark.parametrize("order", [1, 2, 12, 16, 20, 28, 36, 48, 76, 192, 384])
def test_hadamard_matrices(order: int) -> None:
    matrix = hadamard(order)
    assert matrix is not None
    assert set(matrix.unique().tolist()) <= {-1.0, 1.0}
    assert torch.equal(matrix @ matrix.T, order * torch.eye(order, dtype=torch.float64))


@pytest.mark.parametrize("order", [768, 1024, 1152, 1280, 1408, 1536, 1664, 2048])
def test_widths_of_common_models(order: int) -> None:
    matrix = hadamard(order)
    assert matrix is not None
    assert bool((matrix.abs() == 1).all())
    # Orthogonal rows, on a few vectors of whole numbers: the product of two such matrices takes a second.
    vectors = torch.randint(-9, 9, (order, 4), generator=torch.Generator().manual_seed(0)).double()
    assert torch.equal(matrix @ (matrix.T @ vectors), order * vectors)


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
