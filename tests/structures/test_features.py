import torch

from proteus.structures import Features

FEATURES = Features(torch.arange(6.0).view(3, 2), torch.arange(36.0).view(3, 6, 2), (2, 3))


def test_maps_put_the_patches_row_by_row() -> None:
    maps = FEATURES.maps
    assert maps.shape == (3, 2, 2, 3)
    # Image 1, second row, third column is patch 5 of 6; tokens have two channels.
    assert torch.equal(maps[1, :, 1, 2], FEATURES.patches[1, 5])
    assert maps[0, 0].tolist() == [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]


def test_slicing_takes_images() -> None:
    some = FEATURES[1:]
    assert torch.equal(some.cls, FEATURES.cls[1:])
    assert torch.equal(some.patches, FEATURES.patches[1:])
    assert some.grid == (2, 3)
    assert some.maps.shape == (2, 2, 2, 3)
