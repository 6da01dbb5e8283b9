"""A step small enough to be worked out by hand.

``at_identity`` leaves of each head a LayerNorm: of two channels, the smaller becomes -1 and the larger 1 (but for the
eps, which is felt in the sixth digit here). The comments count on that.
"""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from proteus.models import Objective, StepFeatures
from proteus.structures import Features


@pytest.fixture
def step() -> StepFeatures:
    """Two images of two patches; in the masked view patches 0, 1 and 3 of the four are masked."""
    return StepFeatures(
        teacher=Features(
            cls=torch.tensor([[0.0, 0.0], [1.0, 1.0]]),
            patches=torch.tensor([[[-1.0, 1.0], [0.0, 0.0]], [[1.0, 3.0], [0.0, 0.0]]]),
            grid=(1, 2),
        ),
        student=Features(
            cls=torch.tensor([[1.0, 3.0], [5.0, 1.0]]),  # (-1, 1), (1, -1)
            patches=torch.tensor([[[0.0, 2.0], [4.0, 0.0]], [[2.0, 0.0], [0.0, 6.0]]]),  # (-1, 1), (1, -1) and reversed
            grid=(1, 2),
        ),
        masked=Features(
            cls=torch.full((2, 2), torch.nan),  # reaches no loss
            patches=torch.tensor([[[2.0, 5.0], [3.0, 1.0]], [[9.0, -9.0], [0.0, 2.0]]]),  # likewise
            grid=(1, 2),
        ),
        mask_indices=torch.tensor([0, 1, 3]),
    )


@pytest.fixture
def at_identity() -> Callable[[Objective], Objective]:
    def set_linears(objective: Objective) -> Objective:
        for module in objective.modules():
            if isinstance(module, nn.Linear):
                nn.init.eye_(module.weight)
                nn.init.zeros_(module.bias)
        return objective

    return set_linears
