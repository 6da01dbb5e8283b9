import torch

from proteus.models import DistillDataPreprocessor


def test_images_are_normalised_and_the_rest_moves_as_it_is() -> None:
    preprocessor = DistillDataPreprocessor(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    images = torch.ones(2, 3, 4, 4)
    masks = torch.zeros(1, 16, dtype=torch.bool)
    data = {"images": images, "masks": masks, "metas": [{"img_path": "a"}, {"img_path": "b"}]}
    found = preprocessor(data, training=True)
    # (1 - 0.5) / 0.5, (1 - 0.25) / 0.25, (1 - 0) / 2
    assert found["images"][:, :, 0, 0].tolist() == [[1.0, 3.0, 0.5]] * 2
    assert torch.equal(found["masks"], masks)
    assert found["masks"].dtype == torch.bool
    assert found["metas"] == data["metas"]
    assert torch.equal(images, torch.ones(2, 3, 4, 4))


def test_the_defaults_are_imagenets_statistics_and_no_state() -> None:
    preprocessor = DistillDataPreprocessor()
    assert preprocessor.channel_mean == (0.485, 0.456, 0.406)
    assert preprocessor.channel_std == (0.229, 0.224, 0.225)
    assert not preprocessor.state_dict()
