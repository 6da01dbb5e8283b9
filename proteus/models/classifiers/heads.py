"""Many linear classifiers of one input, each with its own learning rate."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Head(NamedTuple):
    """One linear classifier of the grid.

    Attributes:
        layers: Of how many last blocks it reads the cls token.
        avgpool: Whether it reads the mean patch token of the last block too.
        lr: Its learning rate for a batch of 256.
    """

    layers: int
    avgpool: bool
    lr: float

    @property
    def input_name(self) -> str:
        """What it reads: ``blocks4_avgpool``."""
        return f"blocks{self.layers}{'_avgpool' if self.avgpool else ''}"

    @property
    def name(self) -> str:
        """What it is called: ``blocks4_avgpool_lr0.005``."""
        return f"{self.input_name}_lr{self.lr:g}"


class HeadBank(nn.Module):
    """Linear classifiers that read the same input, run as one matrix product.

    Each has a weight ``(C, D)``, normal with standard deviation 0.01, and a bias ``(C,)`` of 0
    (docs/reproduction.md#linear-probe). They are separate parameters, so that the optimizer can give each its learning
    rate.

    Args:
        in_dim: Width ``D`` of the input.
        num_classes: Number ``C`` of classes.
        count: Number of classifiers.
    """

    def __init__(self, in_dim: int, num_classes: int, count: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.weights = nn.ParameterList([torch.empty(num_classes, in_dim) for _ in range(count)])
        self.biases = nn.ParameterList([torch.zeros(num_classes) for _ in range(count)])
        for weight in self.weights:
            nn.init.normal_(weight, std=0.01)

    def forward(self, tokens: Tensor) -> Tensor:
        """Classify ``(B, D)``; returns ``(B, count, C)``."""
        # Joining them costs a copy, and saves a GPU from thousands of small kernels a step.
        logits = F.linear(tokens, torch.cat([*self.weights]), torch.cat([*self.biases]))
        return logits.unflatten(1, (len(self.weights), self.num_classes))

    def one(self, tokens: Tensor, index: int) -> Tensor:
        """Classify ``(B, D)`` with one of them; returns ``(B, C)``."""
        return F.linear(tokens, self.weights[index], self.biases[index])
