"""Top-1 accuracy of student and teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proteus.evaluation.metrics.checked import CheckedMetric, check_values_finite
from proteus.evaluation.metrics.classification import check_samples, image_name
from proteus.registry import METRICS
from proteus.structures import DataError


@METRICS.register_module()
class StudentTeacherAccuracy(CheckedMetric):
    """Top-1 accuracy in per cent of the student's classifier, and of the teacher's if it has one.

    The teacher's accuracy shows at the first validation whether its classifier matches its backbone and the order of
    the labels.
    """

    default_prefix = "accuracy"

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Compare ``student_logits`` and ``teacher_logits`` ``(C,)`` of each image with its ``label``.

        Raises:
            DataError: An image could not be read, has no label or one out of range, no objective has a classifier, or
                scores are not finite.
        """
        for sample in data_samples:
            scores = {who: sample[f"{who}_logits"] for who in ("student", "teacher") if f"{who}_logits" in sample}
            if "label" not in sample or "student" not in scores:
                raise DataError(
                    "StudentTeacherAccuracy needs labels and class scores: use dataset type='LabelledFolder' and an "
                    "objective that classifies (LogitsObjective, LabelObjective), or "
                    "val_evaluator=dict(type='TeacherAgreement')"
                )
            check_samples([sample], "student_logits")
            for who, logits in scores.items():
                check_values_finite(logits, f"{image_name(sample)}: {who}_logits")
                if not 0 <= sample["label"] < len(logits):
                    raise DataError(
                        f"{image_name(sample)} has label {sample['label']}; the {who} has {len(logits)} classes, "
                        "numbered from 0"
                    )
            self.results.append({who: int(logits.argmax()) == sample["label"] for who, logits in scores.items()})

    def compute_metrics(self, results: list[dict[str, bool]]) -> dict[str, float]:
        """Return ``student``, and ``teacher`` if it classifies, each in [0, 100]."""
        self.check_not_empty(results)
        return {who: 100 * sum(result[who] for result in results) / len(results) for who in results[0]}
