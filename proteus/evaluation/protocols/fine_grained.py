"""Fine-grained classification: logistic regression on frozen features."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from tqdm import tqdm

from proteus.datasets.fine_grained import fine_grained_sets
from proteus.evaluation.classifiers.logistic_model import find_dtype
from proteus.evaluation.classifiers.logistic_regression import find_recipe, logistic_regression
from proteus.evaluation.protocols.protocol import EvalContext, ProtocolResult, SetProtocol, check_validation_part
from proteus.registry import PROTOCOLS

# The paper averages over these; GTSRB and Country211 are reported separately (sections 3.3.1 and A.6).
_AVERAGED = tuple(fine_grained_sets())[:12]


@PROTOCOLS.register_module()
class FineGrained(SetProtocol):
    """L2-regularised multinomial logistic regression, its penalty chosen on validation images.

    See docs/reproduction.md#fine-grained-classification.

    Args:
        recipe: Name of grid and number of iterations: ``paper``, ``released`` or ``dinov2``.
        multiple: Classify the cls tokens of the last four blocks and the mean patch token, not only the last cls token.
        dtype: ``float64`` or ``float32``.
        **set_options: ``sets``, ``pipeline``, ``mean`` and ``std`` of :class:`SetProtocol`.

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
        **set_options: Any,
    ) -> None:
        super().__init__(**set_options)
        find_recipe(recipe)
        find_dtype(dtype)
        self.recipe, self.multiple, self.dtype = recipe, multiple, dtype
        self.tokens = "probe" if multiple else "cls"

    def settings(self, context: EvalContext) -> dict[str, Any]:
        """Return grid, tokens and precision."""
        return {"recipe": self.recipe, "multiple": self.multiple, "dtype": self.dtype}

    def evaluate(self, name: str, config: dict[str, Any], context: EvalContext) -> dict[str, Any]:
        """Choose the penalty on ``val``, fit on ``train`` and ``val``, and test.

        Raises:
            DataError: The set has no validation images, or a class has no other training images.
        """
        dataset = context.split(config, "trainval").dataset
        in_val = dataset.in_val()
        check_validation_part(name, in_val, context.split(config, "trainval").labels, dataset.num_classes)
        tables = [
            self.table(name, config, part, context, "probe" if self.multiple else "cls")
            for part in ("trainval", "test")
        ]
        (features, labels), test = [
            (table.features.reshape(len(table.labels), -1) if self.multiple else table.cls, table.labels)
            for table in tables
        ]
        # Memory maps until here; the largest set, Food-101, takes 100 thousand rows of memory.
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
                context.store.device,
                self.dtype,
                progress,
            )
        return {
            "test": result.test_score,
            "metric": result.metric,
            "val": result.val_score,
            "C": f"{result.C:.2e}",
            "train + val / test images": f"{len(labels):,} / {len(test[1]):,}",
            "remarks": "; ".join([*result.remarks, *filter(None, [dataset.differences])]),
        }

    def summarise(self, result: ProtocolResult) -> None:
        """Average over those of the paper's twelve sets that were evaluated, and name the recipe."""
        averaged = [name for name in _AVERAGED if name in self.sets]
        scores = [result.rows[name]["test"] for name in averaged if name in result.rows]
        if averaged and len(scores) == len(_AVERAGED):
            result.summary["average"] = float(np.mean(scores))
        elif len(scores) > 1:
            result.summary[f"average of {len(scores)} of the paper's {len(_AVERAGED)}"] = float(np.mean(scores))
        result.notes.append(f"grid and iterations: {self.recipe}")
