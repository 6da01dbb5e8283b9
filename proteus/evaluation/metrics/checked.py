"""Base class of metrics with checks of their inputs and results."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from proteus.structures import DataError


class CheckedMetric(BaseMetric):
    """Base of metrics that raise an error for an empty data set and for results that are not finite.

    Args:
        **metric: Arguments of MMEngine's metrics.
    """

    def __init__(self, **metric: Any) -> None:
        super().__init__(**metric)
        self._unreadable: set[str] = set()

    def evaluate(self, size: int) -> dict[str, Any]:
        """Compute the metrics of all images on all ranks.

        Args:
            size: Number of images of the data set.

        Raises:
            DataError: Raised on every rank: the data set is empty, or a result is NaN or infinite.
        """
        count = torch.tensor(len(self.results) if size > 0 else 0)
        all_reduce(count)
        self.check_not_empty(range(int(count)))
        metrics: dict[str, Any] = super().evaluate(size)
        check_metrics_finite(metrics, type(self).__name__)
        return metrics

    def readable(self, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Leave out results with ``corrupt``, the images that could not be read and were replaced; log each once.

        A metric must keep a result for each of them: the images that fill up the last batches of several ranks are
        dropped by position.
        """
        names = {name for result in results for name in result.get("corrupt", ())}
        for name in sorted(names - self._unreadable):
            print_log(f"{type(self).__name__}: skipping an unreadable image: {name}", "current", logging.WARNING)
        self._unreadable |= names
        return [result for result in results if not result.get("corrupt")]

    def check_not_empty(self, results: Sequence[Any]) -> None:
        """Check that there are results.

        Raises:
            DataError: The list is empty.
        """
        if not len(results):
            raise DataError(
                f"{type(self).__name__}: no images to compute metrics from; check the data set of this "
                "loader, or write val_evaluator=None, val_dataloader=None and val_cfg=None"
            )


def check_metrics_finite(metrics: Mapping[str, Any], source: str, remedy: str = "") -> None:
    """Check that metrics are finite.

    Args:
        metrics: Metrics by name; values that are not numbers are skipped.
        source: Metric or config key in the message.
        remedy: End of the message: what to do.

    Raises:
        DataError: A metric is NaN or infinite; the message names it.
    """
    wrong = [name for name, value in metrics.items() if isinstance(value, Real) and not math.isfinite(value)]
    if wrong:
        raise DataError(f"{source}: {', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} not finite{remedy}")


def check_values_finite(values: Tensor, name: str) -> None:
    """Check that outputs of a model are finite.

    Args:
        values: Tensor of any shape.
        name: Image and key in the message.

    Raises:
        DataError: A value is not finite.
    """
    if not values.isfinite().all():
        raise DataError(
            f"{name} has values that are NaN or infinite; check the weights, and evaluate in float32 instead of float16"
        )
