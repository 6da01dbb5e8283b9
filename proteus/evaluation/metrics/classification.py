"""Top-1 accuracy of a classifier, and checks of classified samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from proteus.datasets.robustness import IMAGENET_SUBSETS, subset_classes
from proteus.evaluation.metrics.checked import CheckedMetric, check_values_finite
from proteus.registry import METRICS
from proteus.structures import DataError


@METRICS.register_module()
class Top1Accuracy(CheckedMetric):
    """Top-1 accuracy in per cent of a classifier's scores.

    Args:
        classes: Indices of the classes to choose from, in the classifier's numbering; or ``"imagenet_a"`` or
            ``"imagenet_r"`` for the 200 classes of ImageNet-A or -R (docs/reproduction.md#robustness). All by default.
            Labels also use the classifier's numbering.
        **metric: Arguments of MMEngine's metrics.

    Raises:
        ValueError: ``classes`` repeats a class, is empty, or is an unknown name.
    """

    default_prefix = "accuracy"
    metric_names = ("top1",)

    def __init__(self, classes: Sequence[int] | str | None = None, **metric: Any) -> None:
        super().__init__(**metric)
        if isinstance(classes, str):
            if classes not in IMAGENET_SUBSETS:
                raise ValueError(f"Top1Accuracy.classes={classes!r}: choose from {', '.join(IMAGENET_SUBSETS)}")
            classes = subset_classes(classes)
        if classes is not None and (not len(classes) or len(set(classes)) < len(classes) or min(classes) < 0):
            raise ValueError(
                f"Top1Accuracy.classes={list(classes)}: write each class index once, counted from 0, or None"
            )
        self.classes = None if classes is None else torch.tensor(list(classes))

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Compare ``logits`` ``(C,)`` of each image with its ``label``.

        Raises:
            DataError: An image could not be read, has no label, or one that is not among the classes, or its scores are
                not finite.
        """
        if not data_samples:
            return
        check_samples(data_samples, "logits")
        logits = stacked_logits(data_samples)
        allowed = set(range(logits.shape[1]))
        if self.classes is not None:
            if self.classes.max() >= logits.shape[1]:
                raise DataError(
                    f"Top1Accuracy.classes names class {int(self.classes.max())}, but the model has {logits.shape[1]} "
                    "classes: use the numbering of its classes"
                )
            self.classes = self.classes.to(logits.device)
            predictions = self.classes[logits[:, self.classes].argmax(1)].tolist()
            allowed = set(self.classes.tolist())
        else:
            predictions = logits.argmax(1).tolist()
        for sample, prediction in zip(data_samples, predictions, strict=True):
            if sample["label"] not in allowed:
                raise DataError(
                    f"{image_name(sample)} has label {sample['label']}, which is not among the {len(allowed)} classes: "
                    "labels must use the numbering of the model's classes"
                )
            self.results.append(prediction == sample["label"])

    def compute_metrics(self, results: list[bool]) -> dict[str, float]:
        """Return ``top1``, in [0, 100]."""
        self.check_not_empty(results)
        return {"top1": 100 * sum(results) / len(results)}


def check_samples(samples: Iterable[Mapping[str, Any]], key: str) -> None:
    """Check for errors that would silently make an accuracy wrong.

    Args:
        samples: Outputs of the model for each image, with the image's meta.
        key: Required output.

    Raises:
        DataError: An image could not be read and was replaced, has no label, or its outputs lack ``key``.
    """
    for sample in samples:
        if sample.get("corrupt"):
            raise DataError(
                f"an image of the validation set cannot be read: {sample['corrupt'][0]}; restore it (an accuracy on "
                "other images would not be comparable)"
            )
        if "label" not in sample:
            raise DataError(f"{image_name(sample)} has no label: use a labelled data set, such as LabelledFolder")
        if key not in sample:
            raise DataError(f"the model's outputs lack '{key}', which this metric needs: use model type='LinearProbe'")


def stacked_logits(samples: Sequence[Mapping[str, Any]]) -> Tensor:
    """Stack the ``logits`` ``(B, C)`` of a batch.

    Raises:
        DataError: Scores of an image are NaN or infinite; the message names the image.
    """
    logits = torch.stack([sample["logits"] for sample in samples])
    finite = logits.isfinite().all(1).tolist()
    if not all(finite):
        row = finite.index(False)
        check_values_finite(logits[row], f"{image_name(samples[row])}: logits")
    return logits


def image_name(sample: Mapping[str, Any]) -> str:
    """Return the name of an image for error messages."""
    return str(sample.get("img_path") or f"row {sample.get('row', '?')}")
