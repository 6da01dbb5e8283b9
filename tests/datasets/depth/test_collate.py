import torch
from data_samples import data_samples

from proteus.datasets import depth_collate


def sample(height: int, depth_height: int) -> dict:
    return {
        "inputs": torch.ones(3, height, 4),
        "depth": torch.ones(depth_height, 4),
        "data_samples": data_samples({"height": height})[0],
    }


def test_equal_sizes_are_stacked_and_others_listed() -> None:
    batch = depth_collate([sample(5, 2), sample(5, 3)])
    assert batch["inputs"].shape == (2, 3, 5, 4)
    assert [tuple(depth.shape) for depth in batch["depths"]] == [(2, 4), (3, 4)]
    assert [each.metainfo for each in batch["data_samples"]] == [{"height": 5}] * 2
    batch = depth_collate([sample(5, 2), sample(6, 2)])
    assert [tuple(image.shape) for image in batch["inputs"]] == [(3, 5, 4), (3, 6, 4)]
    assert batch["depths"].shape == (2, 2, 4)
