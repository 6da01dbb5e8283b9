import torch

from proteus.models.heads.class_head import ClassHead


def test_it_starts_as_deits_classifier_does() -> None:
    torch.manual_seed(0)
    head = ClassHead(192, 1000)
    assert head.bias.abs().max() == 0
    # torch's own start is uniform up to 1 / sqrt(192), a deviation of 0.042.
    assert 0.0195 < head.weight.std() < 0.0205


def test_scores_are_linear_in_the_token() -> None:
    head = ClassHead(8, 3)
    token = torch.randn(2, 8)
    torch.testing.assert_close(head(2 * token), 2 * token @ head.weight.T)
