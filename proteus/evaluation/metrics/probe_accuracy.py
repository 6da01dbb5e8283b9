"""Accuracy of every head of a linear probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor

from proteus.evaluation.metrics.checked import CheckedMetric
from proteus.evaluation.metrics.classification import check_samples, image_name
from proteus.models.classifiers import Head
from proteus.registry import METRICS
from proteus.structures import DataError
from proteus.utils import write_json, write_text


@dataclass(frozen=True)
class ProbeGrid:
    """Accuracies of a grid of heads.

    Attributes:
        heads: The heads.
        accuracies: Accuracy of each head, per cent.
    """

    heads: tuple[Head, ...]
    accuracies: tuple[float, ...]

    @property
    def best(self) -> int:
        """Position of the first head with the highest accuracy."""
        return max(range(len(self.heads)), key=self.accuracies.__getitem__)

    @property
    def rates(self) -> list[float]:
        """Learning rates, the rows of the table."""
        return list(dict.fromkeys(head.lr for head in self.heads))

    def columns(self) -> dict[str, list[float]]:
        """Return the accuracies at each learning rate by input of the heads: the columns of the table."""
        columns: dict[str, list[float]] = {}
        for head, accuracy in zip(self.heads, self.accuracies, strict=True):
            columns.setdefault(head.input_name, []).append(accuracy)
        return columns

    def table(self) -> str:
        """Format the grid in Markdown, the best head in bold."""
        columns, best = self.columns(), self.heads[self.best]
        lines = [f"| lr at batch 256 | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
        for row, rate in enumerate(self.rates):
            cells = [
                f"**{values[row]:.2f}**" if (name, rate) == (best.input_name, best.lr) else f"{values[row]:.2f}"
                for name, values in columns.items()
            ]
            lines.append(f"| {rate:g} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def write(self, folder: str | Path, iteration: int) -> None:
        """Write ``probe_grid.md`` and ``probe_grid.json``; the heads are those of ``iteration``."""
        best = self.heads[self.best]
        title = f"Top-1 in per cent after {iteration:,} iterations; best: {best.name}, {self.accuracies[self.best]:.2f}"
        write_text(Path(folder, "probe_grid.md"), f"{title}\n\n{self.table()}\n")
        record = {
            "iteration": iteration,
            "best": self.accuracies[self.best],
            "best_head": best.name,
            "heads": [
                {"name": head.name, **head._asdict(), "accuracy": accuracy}
                for head, accuracy in zip(self.heads, self.accuracies, strict=True)
            ],
        }
        write_json(Path(folder, "probe_grid.json"), record, indent=1)


@METRICS.register_module()
class ProbeAccuracy(CheckedMetric):
    """Top-1 accuracy in per cent of every head of a ``LinearProbe``; the result is that of the best head.

    The log has the table of all heads. See docs/reproduction.md#linear-probe.

    Attributes:
        grid: The latest grid; on the main process only.
    """

    default_prefix = "probe"
    metric_names = ("best", "best_head")

    def __init__(self, **metric: Any) -> None:
        super().__init__(**metric)
        self.grid: ProbeGrid | None = None
        self._heads: tuple[Head, ...] = ()

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Compare the predictions ``head_labels`` ``(H,)`` of each image with its ``label``; ``heads`` lists the heads.

        Raises:
            DataError: An image could not be read, has no label, or all heads' scores for it are not finite.
        """
        if not data_samples:
            return
        check_samples(data_samples, "head_labels")
        self._heads = data_samples[0]["heads"]
        predictions: Tensor = torch.stack([sample["head_labels"] for sample in data_samples]).cpu()
        finite = (predictions >= 0).any(dim=1).tolist()
        if not all(finite):
            raise DataError(
                f"{image_name(data_samples[finite.index(False)])}: the scores of all {predictions.shape[1]} heads are "
                "NaN or infinite; check the backbone's weights, and lower learning_rates"
            )
        labels = torch.tensor([sample["label"] for sample in data_samples])
        # One bit per head: ranks exchange this for every image.
        self.results += list(np.packbits((predictions == labels[:, None]).numpy(), axis=1))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Return ``best``, the accuracy of the best head in [0, 100], and ``best_head``, its position in the grid."""
        self.check_not_empty(results)
        right = np.unpackbits(np.stack(results), axis=1, count=len(self._heads))
        self.grid = ProbeGrid(self._heads, tuple((100 * right.mean(axis=0)).tolist()))
        best = self.grid.best
        print_log(
            f"top-1 in per cent of {len(results):,} images; the best head is {self._heads[best].name} with "
            f"{self.grid.accuracies[best]:.2f}\n{self.grid.table()}",
            logger="current",
        )
        return {"best": self.grid.accuracies[best], "best_head": best}
