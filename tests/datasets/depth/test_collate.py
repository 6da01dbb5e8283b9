import torch

from proteus.datasets import depth_collate


def sample(height: int, depth_height: int) -> dict:
    return {"image": torch.ones(3, height, 4), "depth": torch.ones(depth_height, 4), "meta": {"height": height}}


def test_equal_sizes_are_stacked_and_others_listed() -> None:
    batch = depth_collate([sample(5, 2), sample(5, 3)])
    assert batch["images"].shape == (2, 3, 5, 4)
    assert [tuple(depth.shape) for depth in batch["depths"]] == [(2, 4), (3, 4)]
    assert batch["metas"] == [{"height": 5}] * 2
    batch = depth_collate([sample(5, 2), sample(6, 2)])
    assert [tuple(image.shape) for image in batch["images"]] == [(3, 5, 4), (3, 6, 4)]
    assert batch["depths"].shape == (2, 2, 4)
