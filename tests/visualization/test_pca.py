import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import decomposition

from proteus.structures import Features
from proteus.visualization import PCA, draw_pca


@pytest.fixture
def features() -> Features:
    generator = torch.Generator().manual_seed(0)
    # Axes of clearly different lengths, so that their order is certain.
    tokens = torch.randn(3, 12, 8, generator=generator) * torch.tensor([9.0, 6.0, 4.0, 1.0, 0.5, 0.3, 0.2, 0.1])
    return Features(tokens[:, 0], tokens + 5, (3, 4))


def test_axes_equal_scikit_learn_up_to_sign(features: Features) -> None:
    reference = decomposition.PCA(3).fit(features.patches.flatten(0, 1).numpy())
    cosines = (PCA(features).axes.T.numpy() * reference.components_).sum(1)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-5)


def test_maps_have_the_grids_shape_and_use_all_colours(features: Features) -> None:
    maps = PCA(features)(features)
    assert maps.shape == (3, 3, 4, 3)
    assert maps.min() == 0
    assert maps.max() == 1


def test_another_networks_features_use_the_same_axes(features: Features) -> None:
    pca = PCA(features)
    alike = Features(features.cls, features.patches.clone(), features.grid)
    mirrored = Features(features.cls, 10 - features.patches, features.grid)
    assert torch.equal(pca(alike), pca(features))
    assert (pca(mirrored) - pca(features)).abs().mean() > 0.3


def test_the_picture_has_a_row_per_image_and_a_column_per_network(features: Features, tmp_path) -> None:
    maps = PCA(features)(features)
    images = torch.rand(3, 3, 20, 20)
    two = Image.open(draw_pca(images, {"teacher": maps, "student": maps}, tmp_path / "two.png"))
    one = Image.open(draw_pca(images[:1], {"teacher": maps[:1]}, tmp_path / "one.png"))
    assert two.width > one.width
    assert two.height > one.height
