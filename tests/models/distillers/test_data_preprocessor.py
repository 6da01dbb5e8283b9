import pytest
import torch
from data_samples import data_samples
from torchvision.transforms.functional import to_pil_image

from proteus.datasets import ToTensor
from proteus.models import (
    DepthDataPreprocessor,
    DistillDataPreprocessor,
    MixupDataPreprocessor,
    ProbeDataPreprocessor,
)
from proteus.models.distillers.data_preprocessor import fill_with_noise


def test_images_are_normalised_and_the_rest_moves_as_it_is() -> None:
    preprocessor = DistillDataPreprocessor(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    images = torch.ones(2, 3, 4, 4)
    masks = torch.zeros(1, 16, dtype=torch.bool)
    data = {"inputs": images, "masks": masks, "data_samples": data_samples({"img_path": "a"}, {"img_path": "b"})}
    found = preprocessor(data, training=True)
    # (1 - 0.5) / 0.5, (1 - 0.25) / 0.25, (1 - 0) / 1
    assert found["inputs"][:, :, 0, 0].tolist() == [[1.0, 3.0, 1.0]] * 2
    assert torch.equal(found["masks"], masks)
    assert found["masks"].dtype == torch.bool
    assert found["data_samples"] == data["data_samples"]
    assert torch.equal(images, torch.ones(2, 3, 4, 4))


def test_the_defaults_are_imagenets_statistics_and_no_state() -> None:
    preprocessor = DistillDataPreprocessor()
    assert preprocessor.channel_mean == (0.485, 0.456, 0.406)
    assert preprocessor.channel_std == (0.229, 0.224, 0.225)
    assert not preprocessor.state_dict()


def test_bytes_give_what_floats_give_bit_for_bit() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    floats = torch.stack([ToTensor("float32")({"img": to_pil_image(image)})["img"] for image in every])
    for preprocessor in (DistillDataPreprocessor(), DepthDataPreprocessor(), ProbeDataPreprocessor()):
        found = preprocessor({"inputs": every}, training=True)["inputs"]
        assert found.dtype == torch.float32
        assert torch.equal(found, preprocessor({"inputs": floats}, training=True)["inputs"])
    found = DepthDataPreprocessor()({"inputs": [every[0], every[1, :, :8]]})["inputs"]
    wanted = DepthDataPreprocessor()({"inputs": [floats[0], floats[1, :, :8]]})["inputs"]
    assert all(map(torch.equal, found, wanted))
    labels = torch.tensor([0, 1])
    mixed = []
    for images in (every, floats):
        torch.manual_seed(3)
        mixed.append(MixupDataPreprocessor(num_classes=2)({"inputs": images, "labels": labels}, training=True))
    assert torch.equal(mixed[0]["inputs"], mixed[1]["inputs"])


def test_pixels_of_another_kind_are_refused() -> None:
    with pytest.raises(TypeError, match=r"uint8, or float in \[0, 1\]; found torch.int64"):
        DistillDataPreprocessor()({"inputs": torch.ones(1, 3, 2, 2, dtype=torch.int64)})


def test_noise_fills_the_rectangle_and_leaves_the_batch_that_was_given() -> None:
    data = {"inputs": torch.full((2, 3, 8, 8), 128, dtype=torch.uint8), "erase": [(1, 2, 3, 4, 5, 2**63 - 1)]}
    found = DistillDataPreprocessor()(data, training=True)
    assert set(found) == {"inputs"}
    clean = DistillDataPreprocessor()({"inputs": data["inputs"]})["inputs"]
    touched = (found["inputs"] != clean).any(1)
    assert not touched[0].any()
    assert touched[1].sum() == 20
    assert touched[1, 2:6, 3:8].all()
    noise = torch.empty(3, 4, 5).normal_(generator=torch.Generator().manual_seed(2**63 - 1))
    assert torch.equal(found["inputs"][1, :, 2:6, 3:8], noise)
    assert (data["inputs"] == 128).all()
    assert len(data["erase"]) == 1


@pytest.mark.parametrize("device", ["meta", "cuda"])
def test_the_noise_is_that_of_the_cpu_on_every_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    boxes = [(1, 2, 3, 4, 5, 7), (0, 0, 0, 8, 8, 8)]
    expected = fill_with_noise(torch.zeros(2, 3, 8, 8), boxes)
    found = fill_with_noise(torch.zeros(2, 3, 8, 8, device=device), boxes)  # meta has no generator
    assert found.is_meta or torch.equal(found.cpu(), expected)
