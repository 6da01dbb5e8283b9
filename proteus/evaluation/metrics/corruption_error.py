"""ImageNet-C's mean corruption error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.logging import print_log

from proteus.evaluation.metrics.checked import CheckedMetric
from proteus.evaluation.metrics.classification import check_samples, image_name, stacked_logits
from proteus.evaluation.scores import ALEXNET_ERRORS, SEVERITIES, mean_corruption_error
from proteus.registry import METRICS
from proteus.structures import DataError

_NAMES = list(ALEXNET_ERRORS)


@METRICS.register_module()
class CorruptionError(CheckedMetric):
    """Top-1 errors in per cent on ImageNet-C, and their mean relative to AlexNet's (docs/reproduction.md#robustness).

    The mCE needs all 15 corruptions at all five severities. If some are missing, the log lists them and the metric
    returns the other errors only. The log also has the table of errors and the source of the images.

    Args:
        **metric: Arguments of MMEngine's metrics.

    Attributes:
        summary: The text logged last.
    """

    default_prefix = "imagenet-c"

    def __init__(self, **metric: Any) -> None:
        super().__init__(**metric)
        self.summary = ""

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Compare ``logits`` ``(C,)`` of each image with its ``label``, for its ``corruption`` and ``severity``.

        Raises:
            DataError: An image could not be read, lacks one of these, has a label out of range or scores that are not
                finite, or its corruption is not ImageNet-C's.
        """
        if not data_samples:
            return
        check_samples(data_samples, "logits")
        logits = stacked_logits(data_samples)
        for sample, answer in zip(data_samples, logits.argmax(1).tolist(), strict=True):
            name = image_name(sample)
            if sample.get("corruption") not in ALEXNET_ERRORS or sample.get("severity") not in range(1, SEVERITIES + 1):
                raise DataError(
                    f"{name} has corruption {sample.get('corruption')!r} and severity {sample.get('severity')!r}, "
                    "which ImageNet-C lacks; use dataset type ImageNetC or GeneratedImageNetC, and "
                    "dict(type='PackInputs', keys=('corruption', 'severity'))"
                )
            if not 0 <= sample["label"] < logits.shape[1]:
                raise DataError(f"{name} has label {sample['label']}; the model has {logits.shape[1]} classes")
            # One small integer per image, which Python shares: the full set has 3.75 million images.
            part = _NAMES.index(sample["corruption"]) * SEVERITIES + sample["severity"] - 1
            self.results.append(2 * part + (answer != sample["label"]))

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        """Return ``mCE`` and the errors of each corruption, in per cent.

        ``mCE`` needs all corruptions and severities, a corruption's mean (``snow``) its five severities; otherwise the
        errors at the evaluated severities (``snow/3``) are returned instead of the mean.
        """
        self.check_not_empty(results)
        counts = np.bincount(results, minlength=2 * len(_NAMES) * SEVERITIES).reshape(len(_NAMES), SEVERITIES, 2)
        totals = counts.sum(-1)
        errors = np.where(totals > 0, counts[..., 1] / np.maximum(totals, 1), np.nan)
        missing = [
            f"{name} {severity + 1}"
            for name, row in zip(_NAMES, errors, strict=True)
            for severity in np.flatnonzero(np.isnan(row))
        ]
        metrics: dict[str, float] = {}
        if not missing:
            metrics["mCE"] = mean_corruption_error(dict(zip(_NAMES, errors.tolist(), strict=True)))
        for name, row in zip(_NAMES, errors, strict=True):
            if not np.isnan(row).any():
                metrics[name] = 100 * float(row.mean())
            else:
                metrics |= {f"{name}/{s + 1}": 100 * float(row[s]) for s in np.flatnonzero(~np.isnan(row))}
        self.summary = self._table(errors, totals, missing, metrics.get("mCE"))
        print_log(self.summary, logger="current")
        return metrics

    def _table(self, errors: np.ndarray, totals: np.ndarray, missing: list[str], mce: float | None) -> str:
        source = (self.dataset_meta or {}).get("source", "images of unknown origin")
        low, high = totals[totals > 0].min(), totals.max()
        size = f"{high:,}" if low == high else f"{low:,} to {high:,}"
        lines = [
            f"{source}, {size} images per corruption and severity: top-1 errors in per cent",
            f"{'':18}" + "".join(f"{severity:>7}" for severity in range(1, SEVERITIES + 1)) + "   mean     CE",
        ]
        for name, row in zip(_NAMES, errors, strict=True):
            mean = row.mean()
            cells = (*(100 * row), 100 * mean, 100 * mean / ALEXNET_ERRORS[name])
            lines.append(f"{name:18}" + "".join(f"{'-' if np.isnan(cell) else f'{cell:.1f}':>7}" for cell in cells))
        if mce is not None:
            lines.append(f"mCE {mce:.2f} (AlexNet: 100)")
        else:
            named = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
            lines.append(f"no mCE, which needs {len(_NAMES)} corruptions at {SEVERITIES} severities; missing: {named}")
        return "\n".join(lines)
