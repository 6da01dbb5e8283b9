import torch
from data_samples import data_samples

from proteus.models import ProbeDataPreprocessor


def test_images_are_normalised_and_tokens_are_not() -> None:
    preprocessor = ProbeDataPreprocessor(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    batch = preprocessor({"inputs": torch.ones(2, 3, 4, 4), "labels": torch.tensor([1, 2])})
    assert torch.equal(batch["inputs"], torch.full((2, 3, 4, 4), 2.0))
    tokens = torch.randn(2, 5, 8)
    assert torch.equal(
        preprocessor({"tokens": tokens, "data_samples": data_samples({"row": 0}, {"row": 1})})["tokens"], tokens
    )
