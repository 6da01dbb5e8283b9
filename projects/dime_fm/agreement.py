"""Agreement between student and teacher on the scores of held-out images and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from proteus.evaluation.metrics import CheckedMetric
from proteus.evaluation.metrics.checked import check_values_finite
from proteus.evaluation.metrics.classification import image_name
from proteus.registry import METRICS
from proteus.structures import DataError


@METRICS.register_module()
class ScoreAgreement(CheckedMetric):
    """Compare the scores of every held-out image with every held-out sentence.

    - ``kl``: KL divergence from the teacher's distribution over the sentences to the student's, mean over images, in
      nats.
    - ``kl_constant``: the same for the best prediction that ignores the image, the mean of the teacher's distributions.
    - ``rank``: Spearman's correlation over the sentences, mean over images. Some sentences suit every image better than
      others, so a student that ignores the image can score high.
    - ``centred``: Pearson's correlation of the two score matrices after removing the means of rows and columns: 0 for a
      student that ignores the image, 1 for the teacher.
    - ``image_cosine`` and ``text_cosine``: mean cosine between the embeddings of both models, if their widths agree.
    """

    default_prefix = "scores"

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the embeddings (keys as in ``UnpairedDistiller.predict``).

        Raises:
            DataError: The list of sentences is empty, or embeddings are not finite.
        """
        kept = ("student_image", "teacher_image", "student_texts", "teacher_texts", "scale")
        for sample in data_samples:
            if "teacher_texts" not in sample:
                raise DataError(
                    "ScoreAgreement needs sentences: write dataset=dict(type='UnpairedSet', ...) and "
                    "collate_fn=dict(type='unpaired_collate') in that loader, or remove this metric"
                )
            values = {key: sample[key].float().cpu() for key in kept}
            for key, value in values.items():
                check_values_finite(value, f"{image_name(sample)}: {key}")
            # An image in the place of an unreadable one would count twice; its sentences count.
            self.results.append(values | {"corrupt": sample.get("corrupt", ())})

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Return the metrics above.

        Raises:
            DataError: There are fewer than two images or sentences, so nothing is left after removing the means.
        """
        readable = self.readable(results)
        self.check_not_empty(readable)
        images = {who: torch.stack([result[f"{who}_image"] for result in readable]) for who in ("student", "teacher")}
        texts = {who: torch.cat([result[f"{who}_texts"] for result in results]) for who in ("student", "teacher")}
        if min(len(images["teacher"]), len(texts["teacher"])) < 2:
            raise DataError(
                f"ScoreAgreement needs at least two images and two sentences; found {len(images['teacher'])} and "
                f"{len(texts['teacher'])}: hold out more of both"
            )
        scale = results[0]["scale"]
        student, teacher = (scale * images[who] @ texts[who].T for who in ("student", "teacher"))
        log_p = teacher.log_softmax(dim=1)
        found = {
            "kl": _divergence(log_p, student.log_softmax(dim=1)),
            "kl_constant": _divergence(log_p, log_p.logsumexp(dim=0, keepdim=True).log_softmax(dim=1).expand_as(log_p)),
            "rank": _correlation(_ranks(student), _ranks(teacher)).mean().item(),
            "centred": _correlation(_centred(student).flatten(), _centred(teacher).flatten()).item(),
        }
        for kind, of in (("image", images), ("text", texts)):
            if of["student"].shape == of["teacher"].shape:
                found[f"{kind}_cosine"] = F.cosine_similarity(of["student"], of["teacher"], dim=-1).mean().item()
        return found


def _divergence(log_p: Tensor, log_q: Tensor) -> float:
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True).item()


def _ranks(scores: Tensor) -> Tensor:
    # Ties are between equal sentences, for both models, so breaking them by position does not matter.
    return scores.argsort(dim=1, stable=True).argsort(dim=1).float()


def _centred(scores: Tensor) -> Tensor:
    return scores - scores.mean(dim=0) - scores.mean(dim=1, keepdim=True) + scores.mean()


def _correlation(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's correlation along the last dimension."""
    return F.cosine_similarity(one - one.mean(-1, keepdim=True), other - other.mean(-1, keepdim=True), dim=-1)
