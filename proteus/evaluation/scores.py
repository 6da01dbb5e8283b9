"""The figures that the papers' tables print, each in per cent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from proteus.evaluation.input_checks import Array, checked_labels, checked_multi_labels, to_numpy

# Mean over the five severities, as a share of images (hendrycks/robustness).
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
    """Share of the images whose predicted class is the labelled one.

    Args:
        predictions: ``(N,)`` class indices.
        labels: ``(N,)`` class indices.

    Returns:
        Per cent.

    Raises:
        ValueError: They are not class indices, or not equally many.
    """
    predictions, labels = _pair(predictions, labels, None)
    return 100 * float((predictions == labels).mean())


def mean_per_class(predictions: Array, labels: Array, num_classes: int, skip_absent: bool = False) -> float:
    """Mean over the classes of the share of a class's images that are recognised.

    Args:
        predictions: ``(N,)`` class indices.
        labels: ``(N,)`` class indices.
        num_classes: Number of classes.
        skip_absent: Average over the classes that have images, rather than refuse. For a random validation split, which
            may miss a rare class; two figures so made are comparable on the same split only.

    Returns:
        Per cent.

    Raises:
        ValueError: They are not class indices, not equally many, or a class has no image.
    """
    predictions, labels = _pair(predictions, labels, num_classes)
    counts = np.bincount(labels, minlength=num_classes)
    if not skip_absent:
        _refuse_absent(counts, "mean_per_class")
    hits = np.bincount(labels[predictions == labels], minlength=num_classes)
    return 100 * float((hits[counts > 0] / counts[counts > 0]).mean())


def map11(scores: Array, labels: Array, skip_absent: bool = False) -> float:
    """Mean over the classes of PASCAL VOC2007's average precision, interpolated at 11 recalls.

    ``AP = 1/11 * sum over r in {0, 0.1, ..., 1} of max {precision(r') : r' >= r}`` (Everingham et al., IJCV 2010, sec.
    4.2). Images with an equal score are ranked together, so that the figure does not depend on the images' order, and
    recalls are compared as whole numbers, so that 3 of 10 does reach 0.3.

    Args:
        scores: ``(N, C)``, higher is surer; each class ranks the images by its own column.
        labels: ``(N, C)`` of 0 and 1.
        skip_absent: Average over the classes that have images, rather than refuse.

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
        _refuse_absent(counts, "map11")
    return 100 * float(np.mean([_average_precision(values[:, index], marks[:, index]) for index in present]))


def _average_precision(scores: np.ndarray, marks: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    hits = np.cumsum(marks[order])[last_of_tie]
    precision = hits / (np.flatnonzero(last_of_tie) + 1)
    reached = [precision[10 * hits >= tenths * marks.sum()] for tenths in range(11)]
    return float(np.mean([above.max() for above in reached]))


def mean_corruption_error(errors: Mapping[str, Sequence[float]]) -> float:
    """ImageNet-C's mCE: errors on corrupted images relative to AlexNet's, averaged over 15 corruptions.

    ``mCE = 100 * mean over c of (mean over s of error(c, s)) / AlexNet(c)`` (Hendrycks & Dietterich, ICLR 2019, sec.
    3.2, whose sums over severities divide out to the same).

    Args:
        errors: To each corruption, by its folder's name in ImageNet-C, the share of wrongly classified images in
            [0, 1] at severities 1 to 5.

    Returns:
        Per cent: AlexNet scores 100, and lower is better.

    Raises:
        ValueError: A corruption is missing or not one of the 15, has not five severities, or an error is not in [0, 1].
    """
    missing, unknown = ALEXNET_ERRORS.keys() - errors.keys(), errors.keys() - ALEXNET_ERRORS.keys()
    if missing or unknown:
        raise ValueError(
            f"mCE is the mean over the 15 corruptions of ImageNet-C; missing: {sorted(missing) or 'none'}, "
            f"not among them: {sorted(unknown) or 'none'}. Expected: {', '.join(ALEXNET_ERRORS)}"
        )
    ratios = []
    for corruption, alexnet in ALEXNET_ERRORS.items():
        found = [float(error) for error in errors[corruption]]
        if len(found) != SEVERITIES:
            raise ValueError(f"{corruption}: errors at severities 1 to {SEVERITIES} expected; found {len(found)}")
        if not all(0 <= error <= 1 for error in found):
            raise ValueError(f"{corruption}: errors are shares in [0, 1]; found {found}: divide per cent by 100")
        ratios.append(sum(found) / SEVERITIES / alexnet)
    return 100 * sum(ratios) / len(ratios)


def _pair(predictions: Array, labels: Array, num_classes: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Both as class indices; equally many."""
    pair = checked_labels(predictions, num_classes, "predictions"), checked_labels(labels, num_classes)
    if len(pair[0]) != len(pair[1]):
        raise ValueError(f"one prediction a label expected; found {len(pair[0])} predictions and {len(pair[1])} labels")
    return pair


def _refuse_absent(counts: np.ndarray, metric: str) -> None:
    absent = np.flatnonzero(counts == 0).tolist()
    if absent:
        raise ValueError(
            f"{metric} averages over classes, and {len(absent)} of {len(counts)} have no image here: {absent[:10]}. "
            "Give the split they are in, or skip_absent=True to average over the others"
        )
