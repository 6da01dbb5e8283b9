"""Agreement of student and teacher on held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from proteus.evaluation.input_checks import is_integer
from proteus.evaluation.metrics.checked import CheckedMetric, check_values_finite
from proteus.evaluation.metrics.classification import image_name
from proteus.registry import METRICS
from proteus.structures import DataError


@METRICS.register_module()
class TeacherAgreement(CheckedMetric):
    """Centred cosine between the teacher's tokens and the predictions of the student's heads, on held-out images.

    With several students or teachers each has its own metrics, prefixed with its name.

    A teacher's tokens share a large mean, so that the plain cosine is high even for a student that predicts only this
    mean. With the mean subtracted, a constant prediction scores 0 and a perfect one 1.

    An image that could not be read is left out, as in ``OnlineEvalHook``, and logged once: the image that a proxy set
    puts in its place would count twice.

    Args:
        patches_per_image: Number of evenly spaced patches of each image to keep, to bound the memory; all by default.
        **metric: Arguments of MMEngine's metrics.

    Raises:
        ValueError: ``patches_per_image`` is not a positive integer.
    """

    default_prefix = "centered_cosine"

    def __init__(self, patches_per_image: int | None = None, **metric: Any) -> None:
        super().__init__(**metric)
        if patches_per_image is not None and not (is_integer(patches_per_image) and patches_per_image > 0):
            raise ValueError(
                f"TeacherAgreement.patches_per_image={patches_per_image!r}: write a positive integer, or None"
            )
        self.patches_per_image = patches_per_image

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the tokens of each image that could be read (keys as of ``predict`` of the distillers).

        Raises:
            DataError: Tokens are not finite in half precision (largest value 65504).
        """
        for sample in data_samples:
            if sample.get("corrupt"):
                self.results.append({"corrupt": sample["corrupt"]})
                continue
            tokens = {key: value for key, value in sample.items() if isinstance(value, Tensor)}
            for key in tokens:
                if key.endswith("_patches") and self.patches_per_image is not None:
                    rows = torch.linspace(0, len(tokens[key]) - 1, self.patches_per_image).round().long()
                    tokens[key] = tokens[key][rows.to(tokens[key].device)]
            kept = {key: value.half().cpu() for key, value in tokens.items() if not key.endswith("_logits")}
            for key, value in kept.items():
                check_values_finite(value, f"{image_name(sample)}: {key} (in float16)")
            self.results.append(kept)

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Return ``cls`` and ``patch``, each in [-1, 1], if the student predicts them.

        With several students: ``<name>.cls`` and ``<name>.patch``; with several teachers: ``<name>/cls`` and so on.

        Raises:
            DataError: There is only one token, or all of the teacher's are equal, so that nothing remains after
                subtracting their mean.
        """
        results = self.readable(results)
        self.check_not_empty(results)
        metrics = {}
        for name, kind in (("cls", "cls"), ("patch", "patches")):
            for key in [key for key in results[0] if key.endswith(f"student_{kind}")]:
                student = torch.stack([result[key] for result in results]).float().flatten(0, -2)
                prefix = key.removesuffix(f"student_{kind}")
                own = f"{prefix}teacher_{kind}"  # of one of several teachers; several students share theirs
                own = own if own in results[0] else f"teacher_{kind}"
                teacher = torch.stack([result[own] for result in results]).float().flatten(0, -2)
                if len(teacher) < 2 or (teacher == teacher[0]).all():
                    raise DataError(
                        f"TeacherAgreement.{name}: the teacher's {kind} tokens of {len(results)} "
                        f"image{'s' * (len(results) != 1)} are all the same; validate on two or more different images, "
                        "or write val_evaluator=None, val_dataloader=None and val_cfg=None"
                    )
                metrics[prefix + name] = centered_cosine(student, teacher)
        return metrics


def centered_cosine(prediction: Tensor, target: Tensor) -> float:
    """Compute the mean over tokens of the cosine of ``prediction - m`` and ``target - m``, with ``m`` the mean target.

    Args:
        prediction: ``(N, D)``.
        target: ``(N, D)``.

    Returns:
        A number in [-1, 1].
    """
    mean = target.mean(0)
    return F.cosine_similarity(prediction - mean, target - mean, dim=-1).mean().item()
