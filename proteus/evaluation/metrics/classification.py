"""Top-1 accuracy of one classifier."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from proteus.datasets.robustness import IMAGENET_SUBSETS, subset_classes
from proteus.evaluation.metrics.checked import CheckedMetric, refuse_not_finite_values
from proteus.registry import METRICS
from proteus.structures import DataError


@METRICS.register_module()
class Top1Accuracy(CheckedMetric):
    """Top-1 accuracy in per cent of the scores that a classifier gives.

    Args:
        classes: Indices of the classes to choose from, in the classifier's numbering; or ``"imagenet_a"`` or
            ``"imagenet_r"`` for the 200 classes of ImageNet-A or -R (docs/reproduction.md#robustness). All by default.
            Labels use the classifier's numbering, too.
        **metric: As for MMEngine's metrics.

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
                f"Top1Accuracy.classes={list(classes)}: write each class's number once, from 0 on, or None"
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
                    "classes: give the numbers that its classes have"
                )
            self.classes = self.classes.to(logits.device)
            answers = self.classes[logits[:, self.classes].argmax(1)].tolist()
            allowed = set(self.classes.tolist())
        else:
            answers = logits.argmax(1).tolist()
        for sample, answer in zip(data_samples, answers, strict=True):
            if sample["label"] not in allowed:
                raise DataError(
                    f"{name_of(sample)} has label {sample['label']}, which is none of the {len(allowed)} classes that "
                    "are told apart: labels must be in the numbering of the model's classes"
                )
            self.results.append(answer == sample["label"])

    def compute_metrics(self, results: list[bool]) -> dict[str, float]:
        """Return ``top1``, in [0, 100]."""
        self.refuse_empty(results)
        return {"top1": 100 * sum(results) / len(results)}


def check_samples(samples: Iterable[Mapping[str, Any]], key: str) -> None:
    """Refuse what would make an accuracy wrong without anybody's noticing.

    Args:
        samples: What the model said of each image, with the image's meta.
        key: What it must have said.

    Raises:
        DataError: An image was replaced by another since it could not be read, has no label, or lacks ``key``.
    """
    for sample in samples:
        if sample.get("corrupt"):
            raise DataError(
                f"an image of the validation set cannot be read: {sample['corrupt'][0]}; restore it (an accuracy over "
                "other images would not be comparable)"
            )
        if "label" not in sample:
            raise DataError(f"{name_of(sample)} has no label: use a data set that has them, such as LabelledFolder")
        if key not in sample:
            raise DataError(f"the model gives no '{key}', which this metric reads: use model type='LinearProbe'")


def stacked_logits(samples: Sequence[Mapping[str, Any]]) -> Tensor:
    """The ``logits`` of some images, ``(B, C)``.

    Raises:
        DataError: Scores of an image are NaN or infinite; the message names it.
    """
    logits = torch.stack([sample["logits"] for sample in samples])
    finite = logits.isfinite().all(1).tolist()
    if not all(finite):
        row = finite.index(False)
        refuse_not_finite_values(logits[row], f"{name_of(samples[row])}: logits")
    return logits


def name_of(sample: Mapping[str, Any]) -> str:
    """What to call an image in a message."""
    return str(sample.get("img_path") or f"row {sample.get('row', '?')}")
