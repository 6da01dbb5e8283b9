import numpy as np
import pytest
import torch
from PIL import Image

from proteus.datasets.transforms import PackInputs, ToTensor
from proteus.datasets.transforms.erasing import ErasedBox


def coloured() -> np.ndarray:
    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    pixels[1, 2] = (255, 51, 0)
    return pixels


def test_bytes_stay_bytes_channel_first() -> None:
    for image in (Image.fromarray(coloured()), coloured(), coloured()[:, ::-1][:, ::-1]):
        tensor = ToTensor()({"img": image})["img"]
        assert (tensor.shape, tensor.dtype) == ((3, 2, 3), torch.uint8)
        assert tensor[:, 1, 2].tolist() == [255, 51, 0]
        assert tensor.sum() == 306


def test_bytes_become_shares_of_one() -> None:
    for image in (Image.fromarray(coloured()), coloured()):
        tensor = ToTensor("float32")({"img": image})["img"]
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor[:, 1, 2], torch.tensor([1.0, 0.2, 0.0]))
        assert tensor.sum() == tensor[:, 1, 2].sum()


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ToTensor\.dtype='half': write 'uint8' or 'float32'"):
        ToTensor("half")
    with pytest.raises(TypeError, match=r"uint8 array \(H, W, 3\); found float32 \(4, 4, 3\)"):
        ToTensor()({"img": np.zeros((4, 4, 3), np.float32)})
    with pytest.raises(TypeError, match="found Tensor"):
        ToTensor()({"img": torch.zeros(3, 4, 4)})


def test_only_what_the_batch_needs_is_kept() -> None:
    image, mask = torch.zeros(3, 2, 2), torch.ones(4, dtype=torch.bool)
    results = {"img": image, "img_path": "a.jpg", "img_bytes": b"jpeg", "sample_idx": 7}
    packed = PackInputs()(results)
    assert set(packed) == {"inputs", "data_samples"}
    assert packed["inputs"] is image
    assert packed["data_samples"].metainfo == {"img_path": "a.jpg"}
    erase = ErasedBox(0, 0, 1, 1, 5)
    packed = PackInputs()({**results, "mask": mask, "label": 5, "erase": erase})
    assert packed["mask"] is mask
    assert packed["erase"] is erase
    assert packed["data_samples"].metainfo == {"img_path": "a.jpg", "label": 5}
    assert PackInputs(keys=("sample_idx", "absent"))(results)["data_samples"].metainfo == {
        "img_path": "a.jpg",
        "sample_idx": 7,
    }
