import numpy as np
import torch
from PIL import Image

from proteus.datasets.transforms import PackInputs, ToTensor


def test_bytes_become_shares_of_one_channel_first() -> None:
    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    pixels[1, 2] = (255, 51, 0)
    image = ToTensor()({"img": Image.fromarray(pixels)})["img"]
    assert image.shape == (3, 2, 3)
    assert image.dtype == torch.float32
    torch.testing.assert_close(image[:, 1, 2], torch.tensor([1.0, 0.2, 0.0]))
    assert image.sum() == image[:, 1, 2].sum()


def test_only_what_the_batch_needs_is_kept() -> None:
    image, mask = torch.zeros(3, 2, 2), torch.ones(4, dtype=torch.bool)
    results = {"img": image, "img_path": "a.jpg", "img_bytes": b"jpeg", "sample_idx": 7}
    assert PackInputs()(results) == {"image": image, "meta": {"img_path": "a.jpg"}}
    packed = PackInputs()({**results, "mask": mask, "label": 5})
    assert packed["mask"] is mask
    assert packed["meta"] == {"img_path": "a.jpg", "label": 5}
    assert PackInputs(keys=("sample_idx", "absent"))(results)["meta"] == {"img_path": "a.jpg", "sample_idx": 7}
