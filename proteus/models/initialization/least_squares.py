"""Least squares from sums, so that rows need not be kept."""

from __future__ import annotations

import torch
from torch import Tensor

# Enough that nearly equal inputs do not share huge opposite weights.
RIDGE = 1e-2


class LeastSquares:
    """The affine map that predicts outputs from inputs, and from any choice among the inputs.

    Rows are added up in float64. A ridge, given as a share of the inputs' mean variance, holds the weights, not the
    bias.

    Args:
        inputs: Number of inputs ``I``.
        outputs: Number of outputs ``O``.
        device: Where to compute.
    """

    def __init__(self, inputs: int, outputs: int, device: torch.device) -> None:
        self._shift: Tensor | None = None
        self._gram = torch.zeros(inputs + 1, inputs + 1, dtype=torch.float64, device=device)
        self._cross = torch.zeros(inputs + 1, outputs, dtype=torch.float64, device=device)
        self._squares = torch.zeros(outputs, dtype=torch.float64, device=device)

    def add(self, inputs: Tensor, outputs: Tensor, weights: Tensor | None = None) -> None:
        """Add rows ``(R, I)`` and ``(R, O)``, each counting as much as its weight ``(R,)``, or once."""
        if self._shift is None:  # sums of squares far from zero would lose the variance in rounding
            self._shift = inputs.mean(0)
        rows = torch.cat([inputs - self._shift, inputs.new_ones(len(inputs), 1)], dim=1)
        weighted = rows if weights is None else rows * weights[:, None]
        self._gram += (weighted.T @ rows).double()
        self._cross += (weighted.T @ outputs).double()
        self._squares += (outputs * (outputs if weights is None else outputs * weights[:, None])).sum(0).double()

    def solve(self, chosen: Tensor | None = None, ridge: float = RIDGE) -> tuple[Tensor, Tensor]:
        """Weight ``(O, C)`` and bias ``(O,)`` for the chosen inputs ``(C,)``, or all of them, in float32."""
        gram, cross = self._centred(ridge)
        if chosen is None:
            chosen = torch.arange(len(gram), device=gram.device)
        weight = torch.linalg.solve(gram[chosen][:, chosen], cross[chosen])
        total = self._gram[-1, -1]
        bias = (self._cross[-1] - self._gram[-1, chosen] @ weight) / total
        if self._shift is not None:
            bias = bias - self._shift[chosen].double() @ weight
        return weight.T.float().contiguous(), bias.float()

    def best_groups(self, width: int, keep: int) -> Tensor:
        """Choose ``keep`` groups of ``width`` neighbouring inputs.

        One group after another is removed, each time that without which the error rises least.

        Returns:
            The inputs of the groups that stay, ascending, ``(keep * width,)``.
        """
        gram, cross = self._centred(RIDGE)
        groups = list(torch.arange(len(gram), device=gram.device).split(width))
        if len(groups) <= keep:
            return torch.cat(groups)
        # Leaving out a group S raises the error by W_S' (G^-1)_SS^-1 W_S, with the weights W = G^-1 C of all that are
        # left (Hassibi and Stork, 1993); G^-1 of the others follows by elimination.
        inverse = torch.linalg.inv(gram)
        while len(groups) > keep:
            weights = inverse @ cross
            lost = [
                (weights[rows] * torch.linalg.solve(inverse[rows][:, rows], weights[rows])).sum() for rows in groups
            ]
            least = groups.pop(int(torch.stack(lost).argmin()))
            column = inverse[:, least]
            inverse = inverse - column @ torch.linalg.solve(column[least], column.T)
            inverse[least], inverse[:, least], cross[least] = 0, 0, 0
        return torch.cat(groups)

    def best_ridge(self) -> float:
        """The ridge that generalised cross-validation finds best (Golub, Heath and Wahba, 1979).

        For rows that count once. It takes them for independent: where many come of one image, more would be better.
        """
        gram, cross = self._centred(0.0)
        values, vectors = torch.linalg.eigh(gram)
        along = (vectors.T @ cross).square().sum(1)
        variance = (self._squares - self._cross[-1].square() / self._gram[-1, -1]).sum()
        scores = {}
        for ridge in torch.logspace(-4, 1, 21, dtype=torch.float64).tolist():
            held = values + ridge * values.mean()
            left = variance - (along * (2 / held - values / held.square())).sum()
            freedom = 1 + (values / held).sum()  # of the bias, and of each direction as far as it is not held
            scores[ridge] = (left / (1 - freedom / self._gram[-1, -1]).square()).item()
        return min(scores, key=scores.__getitem__)

    def _centred(self, ridge: float) -> tuple[Tensor, Tensor]:
        total, sums = self._gram[-1, -1], self._gram[-1, :-1]
        gram = self._gram[:-1, :-1] - sums[:, None] * sums / total
        cross = self._cross[:-1] - sums[:, None] * self._cross[-1] / total
        strength = ridge * gram.diagonal().mean()
        return gram + strength * torch.eye(len(gram), dtype=gram.dtype, device=gram.device), cross
