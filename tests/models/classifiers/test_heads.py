import pytest
import torch

from proteus.models.classifiers import Head, HeadBank


def test_names() -> None:
    assert Head(4, True, 0.005).name == "blocks4_avgpool_lr0.005"
    assert Head(1, False, 1e-5).name == "blocks1_lr1e-05"


def test_one_product_is_each_head_alone() -> None:
    torch.manual_seed(0)
    bank, tokens = HeadBank(6, 3, 4), torch.randn(5, 6)
    for bias in bank.biases:
        torch.nn.init.normal_(bias)
    logits = bank(tokens)
    assert logits.shape == (5, 4, 3)
    for index in range(4):
        by_hand = tokens @ bank.weights[index].T + bank.biases[index]
        torch.testing.assert_close(logits[:, index], by_hand)
        torch.testing.assert_close(bank.one(tokens, index), by_hand)


def test_initial_values() -> None:
    torch.manual_seed(0)
    bank = HeadBank(400, 50, 2)
    assert [bias.abs().max().item() for bias in bank.biases] == [0, 0]
    for weight in bank.weights:
        assert weight.mean().item() == pytest.approx(0, abs=3e-4)
        assert weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert not torch.equal(*bank.weights)
