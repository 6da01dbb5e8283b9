"""Prompts and their ensemble."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from proteus.evaluation.text.open_clip_parts import tokenizer
from proteus.evaluation.text.prompts import PromptEnsemble, ensemble


def test_prompt_ensemble_by_hand() -> None:
    vectors = {"a dog.": [3.0, 0.0], "no dog.": [0.0, 4.0], "a cat.": [1.0, 0.0], "no cat.": [-0.6, 0.8]}
    known = {tuple(tokenizer()(text, context_length=8)[0].tolist()): vector for text, vector in vectors.items()}

    def encode(tokens: Tensor) -> Tensor:
        return F.normalize(torch.tensor([known[tuple(row)] for row in tokens.tolist()]), dim=-1)

    found = PromptEnsemble(["dog", "cat"], ["a {}.", "no {}."]).embed(encode, 8, torch.device("cpu"))
    # (1, 0) and (0, 1); (1, 0) and (-0.6, 0.8) with the mean (0.2, 0.4), of length sqrt(0.2).
    wanted = torch.tensor([[0.5**0.5, 0.5**0.5], [0.2 / 0.2**0.5, 0.4 / 0.2**0.5]])
    torch.testing.assert_close(found, wanted)
    assert len(PromptEnsemble("imagenet", "openai").prompts("tench")) == 80
    assert len(PromptEnsemble("imagenet").names) == 1000
    with pytest.raises(ValueError, match="for the class's name"):
        PromptEnsemble(["dog"], ["a dog."])
    with pytest.raises(ValueError, match="write a list of names, or 'imagenet'"):
        PromptEnsemble("dog")
    with pytest.raises(ValueError, match="templates is empty"):
        PromptEnsemble(["dog"], [])
    with pytest.raises(ValueError, match="write a list of sentences, 'openai' or 'simple'"):
        PromptEnsemble(["dog"], "all")


def test_an_ensemble_ignores_the_length_of_a_prompt() -> None:
    first, second = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 0.5])
    expected = torch.tensor([0.5**0.5, 0.5**0.5])
    torch.testing.assert_close(ensemble(torch.stack([first, second])), expected)
    torch.testing.assert_close(ensemble(torch.stack([9 * first, second])), expected)
