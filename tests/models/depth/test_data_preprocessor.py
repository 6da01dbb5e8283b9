import torch
from data_samples import data_samples

from proteus.models import DepthDataPreprocessor


def test_released_statistics_and_images_of_several_sizes() -> None:
    images = [torch.rand(3, 4, 6), torch.rand(3, 5, 6)]
    depths = [torch.rand(4, 6), torch.rand(5, 6)]
    data = DepthDataPreprocessor()({"inputs": images, "depths": depths, "data_samples": data_samples({}, {})})
    for given, got, depth, truth in zip(images, data["inputs"], data["depths"], depths, strict=True):
        torch.testing.assert_close(got, (given * 255 - 127.5) / 127.5)
        assert torch.equal(depth, truth)
    stacked = DepthDataPreprocessor((0.1, 0.2, 0.3), (1.0, 0.5, 0.25))({"inputs": torch.zeros(2, 3, 1, 1)})
    torch.testing.assert_close(stacked["inputs"][1].flatten(), torch.tensor([-0.1, -0.4, -1.2]))
