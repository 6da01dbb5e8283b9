"""Scores of the papers' tables, in per cent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from proteus.evaluation.input_checks import Array, checked_labels, checked_multi_labels, to_numpy

# AlexNet's error as a fraction of images, mean over the five severities (hendrycks/robustness).
ALEXNET_ERRORS: Mapping[str, float] = MappingProxyType(
    {
        "gaussian_noise": 0.886428,
        "shot_noise": 0.894468,
        "impulse_noise": 0.922640,
        "defocus_blur": 0.819880,
        "glass_blur": 0.826268,
        "motion_blur": 0.785948,
        "zoom_blur": 0.798360,
        "snow": 0.866816,
        "frost": 0.826572,
        "fog": 0.819324,
        "brightness": 0.564592,
        "contrast": 0.853204,
        "elastic_transform": 0.646056,
        "pixelate": 0.717840,
        "jpeg_compression": 0.606500,
    }
)
SEVERITIES = 5


def top1(predictions: Array, labels: Array) -> float:
    """Compute the top-1 accuracy.

    Args:
        predictions: ``(N,)`` class indices.
        labels: ``(N,)`` class indices.

    Returns:
        Per cent.

    Raises:
        ValueError: An argument is not an array of class indices, or their lengths differ.
    """
    predictions, labels = _pair(predictions, labels, None)
    return 100 * float((predictions == labels).mean())


def mean_per_class(predictions: Array, labels: Array, num_classes: int, skip_absent: bool = False) -> float:
    """Compute the accuracy of each class and average over the classes.

    Args:
        predictions: ``(N,)`` class indices.
        labels: ``(N,)`` class indices.
        num_classes: Number of classes.
        skip_absent: Average over the classes that have images, instead of raising an error. For a random validation
            split, which may miss a rare class; such scores are comparable on the same split only.

    Returns:
        Per cent.

    Raises:
        ValueError: An argument is not an array of class indices, lengths differ, or a class has no image.
    """
    predictions, labels = _pair(predictions, labels, num_classes)
    counts = np.bincount(labels, minlength=num_classes)
    if not skip_absent:
        _check_present(counts, "mean_per_class")
    hits = np.bincount(labels[predictions == labels], minlength=num_classes)
    return 100 * float((hits[counts > 0] / counts[counts > 0]).mean())


def map11(scores: Array, labels: Array, skip_absent: bool = False) -> float:
    """Compute PASCAL VOC2007's mean average precision, interpolated at 11 recalls.

    ``AP = 1/11 * sum over r in {0, 0.1, ..., 1} of max {precision(r') : r' >= r}`` (Everingham et al., IJCV 2010, sec.
    4.2). Images with equal scores are ranked together, so that the result does not depend on their order, and recalls
    are compared as integers, so that 3 of 10 reaches 0.3.

    Args:
        scores: ``(N, C)``, higher is more confident; each class ranks the images by its column.
        labels: ``(N, C)`` of 0 and 1.
        skip_absent: Average over the classes that have images, instead of raising an error.

    Returns:
        Per cent.

    Raises:
        ValueError: Shapes differ, a score is NaN, a label is neither 0 nor 1, or a class has no image.
    """
    values, marks = to_numpy(scores), checked_multi_labels(labels)
    if values.shape != marks.shape:
        raise ValueError(f"scores and labels should both be (N, C); found {values.shape} and {marks.shape}")
    if np.isnan(values).any():
        row, column = np.argwhere(np.isnan(values))[0]
        raise ValueError(f"scores[{row}, {column}] is NaN; a ranking needs numbers")
    counts = marks.sum(axis=0)
    present = np.flatnonzero(counts)
    if not skip_absent or not len(present):
        _check_present(counts, "map11")
    return 100 * float(np.mean([_average_precision(values[:, index], marks[:, index]) for index in present]))


def score(metric: str, scores: Array, labels: Array, skip_absent: bool = False) -> float:
    """Compute a data set's own metric from the scores of its classes.

    Args:
        metric: ``top1``, ``mean_per_class`` or ``map11``.
        scores: ``(N, C)``, higher is more confident.
        labels: ``(N,)`` class indices; ``(N, C)`` of 0 and 1 for ``map11``.
        skip_absent: As for :func:`mean_per_class` and :func:`map11`.

    Returns:
        Per cent.

    Raises:
        ValueError: As of the metric's function.
    """
    if metric == "map11":
        return map11(scores, labels, skip_absent)
    predictions = to_numpy(scores).argmax(axis=1)
    if metric == "top1":
        return top1(predictions, labels)
    return mean_per_class(predictions, labels, scores.shape[1], skip_absent)


def _average_precision(scores: np.ndarray, marks: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    hits = np.cumsum(marks[order])[last_of_tie]
    precision = hits / (np.flatnonzero(last_of_tie) + 1)
    reached = [precision[10 * hits >= tenths * marks.sum()] for tenths in range(11)]
    return float(np.mean([above.max() for above in reached]))


def mean_corruption_error(errors: Mapping[str, Sequence[float]]) -> float:
    """Compute ImageNet-C's mCE: errors relative to AlexNet's, averaged over 15 corruptions.

    ``mCE = 100 * mean over c of (mean over s of error(c, s)) / AlexNet(c)`` (Hendrycks & Dietterich, ICLR 2019, sec.
    3.2, with sums over severities instead of means, which is the same ratio).

    Args:
        errors: Top-1 error in [0, 1] at severities 1 to 5 by corruption, named as ImageNet-C's folders.

    Returns:
        Per cent: AlexNet has 100; lower is better.

    Raises:
        ValueError: A corruption is missing or not one of the 15, does not have five severities, or an error is not in
            [0, 1].
    """
    missing, unknown = ALEXNET_ERRORS.keys() - errors.keys(), errors.keys() - ALEXNET_ERRORS.keys()
    if missing or unknown:
        raise ValueError(
            f"mCE needs the 15 corruptions of ImageNet-C; missing: {sorted(missing) or 'none'}, "
            f"unknown: {sorted(unknown) or 'none'}. Expected: {', '.join(ALEXNET_ERRORS)}"
        )
    ratios = []
    for corruption, alexnet in ALEXNET_ERRORS.items():
        found = [float(error) for error in errors[corruption]]
        if len(found) != SEVERITIES:
            raise ValueError(f"{corruption}: expected errors at severities 1 to {SEVERITIES}; found {len(found)}")
        if not all(0 <= error <= 1 for error in found):
            raise ValueError(f"{corruption}: errors should be in [0, 1]; found {found}: divide per cent by 100")
        ratios.append(sum(found) / SEVERITIES / alexnet)
    return 100 * sum(ratios) / len(ratios)


def _pair(predictions: Array, labels: Array, num_classes: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Check that both are class indices of the same length."""
    pair = checked_labels(predictions, num_classes, "predictions"), checked_labels(labels, num_classes)
    if len(pair[0]) != len(pair[1]):
        raise ValueError(
            f"expected one prediction per label; found {len(pair[0])} predictions and {len(pair[1])} labels"
        )
    return pair


def _check_present(counts: np.ndarray, metric: str) -> None:
    absent = np.flatnonzero(counts == 0).tolist()
    if absent:
        raise ValueError(
            f"{metric} averages over classes, but {len(absent)} of {len(counts)} have no image here: {absent[:10]}. "
            "Use a split with all classes, or skip_absent=True to average over the others"
        )


def confusion_matrix(predicted: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Count pixels by true class (rows) and predicted class (columns), ``(C, C)`` int64.

    Args:
        predicted: Classes, of any shape.
        truth: Classes of the same shape; negative ones are ignored.
        num_classes: Number of classes ``C``.
    """
    known = truth >= 0
    cells = truth[known].astype(np.int64) * num_classes + predicted[known]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def mean_iou(confusion: np.ndarray) -> float:
    """Compute the mean intersection over union from a confusion matrix, as mmseg does.

    Classes that are neither in the truth nor predicted are left out.

    Args:
        confusion: ``(C, C)`` from :func:`confusion_matrix`, of all images.

    Returns:
        Per cent; NaN without a labelled pixel.
    """
    hits = confusion.diagonal()
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    present = union > 0
    return 100 * float((hits[present] / union[present]).mean()) if present.any() else float("nan")
