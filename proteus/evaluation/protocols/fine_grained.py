"""Logistic regression on frozen features, on many labelled sets."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from tqdm import tqdm

from proteus.datasets.fine_grained import fine_grained_sets
from proteus.evaluation.classifiers.logistic_model import find_dtype
from proteus.evaluation.classifiers.logistic_regression import find_recipe, logistic_regression
from proteus.evaluation.protocols.protocol import EvalContext, ProtocolResult, SetProtocol
from proteus.registry import PROTOCOLS
from proteus.structures import DataError

# The paper's average is over these; GTSRB and Country211 stand beside it (sections 3.3.1 and A.6).
_AVERAGED = tuple(fine_grained_sets())[:12]


@PROTOCOLS.register_module()
class FineGrained(SetProtocol):
    """L2-regularised multinomial logistic regression, its penalty chosen on validation images.

    See docs/reproduction.md#fine-grained-classification.

    Args:
        recipe: Grid and number of iterations, by name: ``paper``, ``released`` or ``dinov2``.
        multiple: Read the cls tokens of the last four blocks and the mean patch token, not the last cls token alone.
        dtype: ``float64`` or ``float32``.
        **judged: ``sets``, ``pipeline``, ``mean``, ``std``, as for :class:`SetProtocol`.

    Raises:
        ValueError: A name is unknown.
    """

    name = "fine-grained"
    title = "Logistic regression"
    unit = "%"

    def __init__(
        self,
        recipe: str = "paper",
        multiple: bool = False,
        dtype: str = "float64",
        **judged: Any,
    ) -> None:
        super().__init__(**judged)
        find_recipe(recipe)
        find_dtype(dtype)
        self.recipe, self.multiple, self.dtype = recipe, multiple, dtype

    def settings(self, bench: EvalContext) -> dict[str, Any]:
        """Grid, tokens and arithmetic."""
        return {"recipe": self.recipe, "multiple": self.multiple, "dtype": self.dtype}

    def judge(self, name: str, config: dict[str, Any], bench: EvalContext) -> dict[str, Any]:
        """Choose the penalty on ``val``, fit on ``train`` and ``val``, test.

        Raises:
            DataError: The set has no validation images, or a class has no training images apart from them.
        """
        dataset = bench.split(config, "trainval").dataset
        in_val = dataset.in_val()
        _check_parts(name, in_val, bench.split(config, "trainval").labels, dataset.num_classes)
        tables = [
            self.table(name, config, part, bench, "probe" if self.multiple else "cls") for part in ("trainval", "test")
        ]
        (features, labels), test = [
            (table.features.reshape(len(table.labels), -1) if self.multiple else table.cls, table.labels)
            for table in tables
        ]
        # On disk until here: from now on a whole set is in memory, and that is at most Food-101's 100 thousand rows.
        features = np.asarray(features)
        with tqdm(desc=f"{name}: fits", unit="fit", mininterval=0.5 if sys.stderr.isatty() else 30.0) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            result = logistic_regression(
                (features[~in_val], labels[~in_val]),
                (features[in_val], labels[in_val]),
                (np.asarray(test[0]), test[1]),
                dataset.num_classes,
                dataset.metric,
                self.recipe,
                bench.store.device,
                self.dtype,
                progress,
            )
        return {
            "test": result.test_score,
            "metric": result.metric,
            "val": result.val_score,
            "C": f"{result.C:.2e}",
            "train + val / test images": f"{len(labels):,} / {len(test[1]):,}",
            "remarks": "; ".join([*result.remarks, *filter(None, [dataset.deviation])]),
        }

    def summarise(self, outcome: ProtocolResult) -> None:
        """Average over the paper's twelve sets, where all are there; over those that are there otherwise."""
        averaged = [name for name in _AVERAGED if name in self.sets]
        there = [outcome.rows[name]["test"] for name in averaged if name in outcome.rows]
        if averaged and len(there) == len(_AVERAGED):
            outcome.summary["average"] = float(np.mean(there))
        elif len(there) > 1:
            outcome.summary[f"average of {len(there)} of the paper's {len(_AVERAGED)}"] = float(np.mean(there))
        outcome.notes.append(f"grid and iterations: {self.recipe}")


def _check_parts(name: str, in_val: np.ndarray, labels: np.ndarray, classes: int) -> None:
    """Refuse a set with too few images to fit or to validate on, before an image is read."""
    if in_val.all() or not in_val.any():
        raise DataError(
            f"{name}: {len(in_val)} training images, {int(in_val.sum())} of them for validation; both parts need "
            "one (without a split val, a fifth of the training images serves for it: give 5 or more)"
        )
    fitted = labels[~in_val]
    present = fitted.any(axis=0) if fitted.ndim == 2 else np.isin(np.arange(classes), fitted)
    if not present.all():
        absent = np.flatnonzero(~present).tolist()
        raise DataError(
            f"{name}: {len(absent)} of {classes} classes have no training image apart from those for "
            f"validation: {absent[:10]}; give more images of each class, or a split val"
        )
