"""Evaluate frozen features of a backbone on folders of real pictures, for ``study.py``.

The figures: k-NN and logistic regression on CIFAR-10, logistic regression on patches of CamVid (mIoU), and how well a
linear map predicts the teacher's tokens on unseen photographs. Everything is deterministic, so that two students differ
by their weights alone. Most of the time is the backbone's: 4,400 images, of which a core encodes 100 a second for a
ViT-Ti at 112 px; reading them takes five seconds, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from study_pictures import CAMVID_CLASSES, Labelled, Pictures, halves
from study_pictures import load_pictures as load_pictures
from torch import Tensor

from proteus.evaluation.online.compare import effective_rank
from proteus.evaluation.scores import confusion_matrix, mean_iou
from proteus.structures import Features

Encoder = Callable[[Tensor], Features]
"""Maps images ``(B, 3, H, W)`` in [0, 1] to features."""

_BATCH = 50
_NEIGHBOURS = 10
_STRENGTH = 0.01  # C of the logistic regressions, on standardised features
_CAMVID_PATCHES = 12_000
_RIDGE = 1e-2


@dataclass(frozen=True)
class LinearMap:
    """Ridge regression from tokens of one network to those of another.

    Attributes:
        mean: Mean of the inputs, ``(D,)``.
        centre: Mean of the outputs, ``(E,)``.
        weight: ``(D, E)``.
    """

    mean: Tensor
    centre: Tensor
    weight: Tensor

    @classmethod
    def fit(cls, student: Tensor, teacher: Tensor) -> LinearMap:
        """Fit to tokens ``(B, N, D)`` and ``(B, N, E)`` of the same images."""
        inputs, outputs = student.flatten(0, 1).double(), teacher.flatten(0, 1).double()
        mean, centre = inputs.mean(0), outputs.mean(0)
        gram = (inputs - mean).T @ (inputs - mean)
        gram += _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        return cls(mean, centre, torch.linalg.solve(gram, (inputs - mean).T @ (outputs - centre)))

    def __call__(self, tokens: Tensor) -> Tensor:
        """Predict centred tokens ``(B, N, E)`` from ``(B, N, D)``."""
        return (tokens.double() - self.mean) @ self.weight


def evaluate_features(encode: Encoder, pictures: Pictures, teacher: Features | None = None) -> dict[str, float]:
    """Evaluate frozen features.

    Args:
        encode: The backbone with its normalisation.
        pictures: What to evaluate on.
        teacher: Features of the teacher for the photographs, from :func:`encode_all`; None for the teacher itself.

    Returns:
        In per cent ``cifar_knn``, ``cifar_logistic``, ``camvid_miou``; ``patch_cosine`` and ``cls_cosine``, centred
        cosines of linear predictions and the teacher's tokens; ``rank_cls`` and ``rank_patch``.
    """
    figures = _evaluate_cifar(encode, pictures.cifar)
    figures["camvid_miou"] = _evaluate_camvid(encode, pictures.camvid)
    photographs = encode_all(encode, pictures.photographs)
    figures["rank_cls"] = float(effective_rank(photographs.cls))
    figures["rank_patch"] = float(effective_rank(photographs.patches[:, ::8].flatten(0, 1)))
    if teacher is not None:
        figures["patch_cosine"] = linear_agreement(photographs.patches, teacher.patches)
        figures["cls_cosine"] = linear_agreement(photographs.cls[:, None], teacher.cls[:, None])
    return figures


def encode_all(encode: Encoder, images: Tensor) -> Features:
    """Encode uint8 images ``(N, 3, H, W)`` in batches."""
    with torch.inference_mode():
        found = [encode(batch.float() / 255) for batch in images.split(_BATCH)]
    return Features(torch.cat([each.cls for each in found]), torch.cat([each.patches for each in found]), found[0].grid)


def linear_agreement(student: Tensor, teacher: Tensor) -> float:
    """Return the mean centred cosine of linear predictions and the teacher's tokens ``(B, N, D)``.

    The map is fitted on half of the images, drawn at random with a fixed seed, and compared on the other half.
    """
    fit, test = halves(len(student))
    predict = LinearMap.fit(student[fit], teacher[fit])
    centred = teacher[test].double() - predict.centre
    return float(F.cosine_similarity(predict(student[test]), centred, dim=-1).mean())


def _evaluate_cifar(encode: Encoder, cifar: Mapping[str, Labelled]) -> dict[str, float]:
    fit, test = (encode_all(encode, cifar[split].images).cls for split in ("train", "test"))
    similarities = F.normalize(test, dim=1) @ F.normalize(fit, dim=1).T
    nearest = cifar["train"].labels[similarities.topk(min(_NEIGHBOURS, len(fit))).indices.numpy()]
    votes = np.stack([(nearest == label).sum(1) for label in range(cifar["train"].labels.max() + 1)], 1)
    return {
        "cifar_knn": 100 * float((votes.argmax(1) == cifar["test"].labels).mean()),
        "cifar_logistic": 100 * float((_logistic(fit, cifar["train"].labels, test) == cifar["test"].labels).mean()),
    }


def _evaluate_camvid(encode: Encoder, camvid: Mapping[str, Labelled]) -> float:
    tokens, labels = {}, {}
    for split, tiles in camvid.items():
        tokens[split] = encode_all(encode, tiles.images).patches.flatten(0, 1)
        labels[split] = tiles.labels.reshape(-1)
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(labels["train"] >= 0))[:_CAMVID_PATCHES]
    counted = np.flatnonzero(labels["test"] >= 0)
    predicted = _logistic(tokens["train"][chosen], labels["train"][chosen], tokens["test"][counted])
    matrix = confusion_matrix(predicted, labels["test"][counted], CAMVID_CLASSES)
    return float(mean_iou(matrix))


def _logistic(fit: Tensor, labels: np.ndarray, test: Tensor) -> np.ndarray:
    scaler = StandardScaler().fit(fit.numpy())
    regression = LogisticRegression(C=_STRENGTH, max_iter=500)
    predicted: np.ndarray = regression.fit(scaler.transform(fit.numpy()), labels).predict(
        scaler.transform(test.numpy())
    )
    return predicted
