import copy

import pytest
import torch
from torch import Tensor

from proteus.models import StandardizedMSELoss


def built(channels: int = 3, **options: float) -> StandardizedMSELoss:
    loss = StandardizedMSELoss(**options)
    loss.set_channels(channels)
    return loss


def steps(count: int = 4) -> list[Tensor]:
    """Tokens of some steps, of unlike numbers, with means and scales far from 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    scale, mean = torch.tensor([0.01, 1.0, 20.0]), torch.tensor([0.3, 0.0, -50.0])
    return [torch.randn(2, 5 + step, 3, generator=generator) * scale + mean + step for step in range(count)]


def test_by_hand() -> None:
    loss = built(1, eps=1e-12)
    # Without statistics: squares of 1 and 3.
    assert loss(torch.tensor([[1.0], [-1.0]]), torch.tensor([[0.0], [2.0]])).item() == pytest.approx((1 + 9) / 2)
    loss.end_step()
    # Of 0 and 2: mean 1, deviation 1. Of 4: (4 - 1) / 1 against 1.
    assert loss(torch.tensor([[1.0]]), torch.tensor([[4.0]])).item() == pytest.approx(4.0)
    loss.end_step()
    # Of 0, 2 and 4: mean 2, variance 8 / 3.
    assert (loss.mean.item(), loss.variance.item(), loss.count.item()) == pytest.approx((2, 8 / 3, 3))


def test_statistics_are_those_of_all_tokens_before_the_step() -> None:
    loss = built()
    seen: list[Tensor] = []
    for tokens in steps():
        prediction = torch.zeros_like(tokens).requires_grad_()
        term = loss(prediction, tokens)
        (gradient,) = torch.autograd.grad(term, prediction)
        mean, deviation = torch.zeros(3), torch.ones(3)
        if seen:
            past = torch.cat(seen).double()
            mean, deviation = past.mean(0).float(), (past.var(0, correction=0) + 1e-5).sqrt().float()
        naive = (tokens - mean) / deviation
        torch.testing.assert_close(term, naive.square().mean(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(gradient, -2 * naive / naive.numel(), rtol=1e-4, atol=1e-5)
        seen.append(tokens.flatten(0, 1))
        loss.end_step()


def test_a_step_in_parts_is_the_step() -> None:
    whole, parts = built(), built()
    for tokens in steps():
        zeros = torch.zeros_like(tokens)
        expected = whole(zeros, tokens)
        found = (parts(zeros[:1], tokens[:1]) + parts(zeros[1:], tokens[1:])) / 2
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        whole.end_step()
        parts.end_step()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-5, atol=1e-5)


def test_momentum_weighs_the_newest_step() -> None:
    loss = built(1, momentum=0.25)
    for values in ([0.0, 2.0], [5.0, 5.0]):
        loss(torch.zeros(2, 1), torch.tensor(values)[:, None])
        loss.end_step()
    # A mixture: 3/4 of mean 1 and variance 1, 1/4 of mean 5 and variance 0.
    assert loss.mean.item() == pytest.approx(0.75 * 1 + 0.25 * 5)
    assert loss.variance.item() == pytest.approx(0.75 * (1 + 1) + 0.25 * 9, rel=1e-5)


def test_statistics_are_restored_from_a_checkpoint_and_left_by_evaluation() -> None:
    loss = built()
    for tokens in steps(2):
        loss(tokens, tokens)
        loss.end_step()
    again = built()
    again.load_state_dict(copy.deepcopy(loss.state_dict()))
    tokens = steps(3)[2]
    for each in (loss, again):
        each.eval()(tokens, tokens)
        each.end_step()
        assert each.count.item() == 2 * (5 + 6)
    assert torch.equal(loss(tokens, tokens), again(tokens, tokens))
    for each in (loss, again):
        each.train()(tokens, tokens)
        each.end_step()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in loss.state_dict().items())
    assert loss.count.item() == 2 * (5 + 6 + 7)


def test_predictions_are_brought_back_to_the_teachers_space() -> None:
    loss = built()
    tokens = steps(1)[0]
    loss(tokens, tokens)
    loss.end_step()
    standardised = (tokens - loss.mean) / (loss.variance + 1e-5).sqrt()
    assert loss.eval()(standardised, tokens).item() == pytest.approx(0, abs=1e-8)
    torch.testing.assert_close(loss.restore(standardised), tokens)


@pytest.mark.parametrize("options", [{"momentum": 0.0}, {"momentum": 1.5}, {"eps": 0.0}])
def test_bad_values(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        StandardizedMSELoss(**options)
