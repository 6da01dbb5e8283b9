"""Checks that all our metrics share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.evaluator import BaseMetric
from torch import Tensor

from proteus.structures import DataError


class CheckedMetric(BaseMetric):
    """Base of metrics that refuse an empty data set and results that are not finite."""

    def evaluate(self, size: int) -> dict[str, Any]:
        """Compute the figures of all images on all ranks, as MMEngine's metrics do.

        Args:
            size: Number of images of the data set.

        Raises:
            DataError: Raised on every rank: the data set is empty, or a result is NaN or infinite.
        """
        count = torch.tensor(len(self.results) if size > 0 else 0)
        all_reduce(count)
        self.refuse_empty(range(int(count)))
        figures: dict[str, Any] = super().evaluate(size)
        refuse_not_finite_figures(figures, type(self).__name__)
        return figures

    def refuse_empty(self, results: Sequence[Any]) -> None:
        """Refuse an empty list of results.

        Raises:
            DataError: The list is empty.
        """
        if not len(results):
            raise DataError(
                f"{type(self).__name__}: no images to compute metrics from; check the data set of this "
                "loader, or write val_evaluator=None, val_dataloader=None and val_cfg=None"
            )


def refuse_not_finite_figures(figures: Mapping[str, Any], what: str, remedy: str = "") -> None:
    """Refuse figures that are NaN or infinite.

    Args:
        figures: By name; values that are not numbers are passed over.
        what: What computed them, for the message.
        remedy: What to do about it, for the message.

    Raises:
        DataError: Names them.
    """
    wrong = [name for name, value in figures.items() if isinstance(value, Real) and not math.isfinite(value)]
    if wrong:
        raise DataError(f"{what}: {', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} not finite{remedy}")


def refuse_not_finite_values(values: Tensor, what: str) -> None:
    """Refuse model outputs that are NaN or infinite.

    Args:
        values: Of any shape.
        what: Image and key, for the message.

    Raises:
        DataError: A value is not finite.
    """
    if not values.isfinite().all():
        raise DataError(
            f"{what} has values that are NaN or infinite; check the weights, and evaluate in float32 if it was in "
            "float16"
        )
