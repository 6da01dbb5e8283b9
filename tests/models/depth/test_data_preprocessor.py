import torch

from proteus.models import DepthDataPreprocessor


def test_released_statistics_and_images_of_several_sizes() -> None:
    images = [torch.rand(3, 4, 6), torch.rand(3, 5, 6)]
    depths = [torch.rand(4, 6), torch.rand(5, 6)]
    data = DepthDataPreprocessor()({"images": images, "depths": depths, "metas": [{}, {}]})
    for given, got, depth, truth in zip(images, data["images"], data["depths"], depths, strict=True):
        torch.testing.assert_close(got, (given * 255 - 127.5) / 127.5)
        assert torch.equal(depth, truth)
    stacked = DepthDataPreprocessor((0.1, 0.2, 0.3), (1.0, 2.0, 4.0))({"images": torch.zeros(2, 3, 1, 1)})
    torch.testing.assert_close(stacked["images"][1].flatten(), torch.tensor([-0.1, -0.1, -0.075]))
