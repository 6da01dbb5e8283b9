"""Evaluate frozen features of a backbone on folders of real pictures, for ``study.py``.

The figures: k-NN and logistic regression on CIFAR-10, logistic regression on patches of CamVid (mIoU), and how well a
linear map predicts the teacher's tokens on unseen photographs. Everything is deterministic, so that two students differ
by their weights alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from proteus.evaluation.online.compare import effective_rank
from proteus.evaluation.scores import confusion_matrix, mean_iou
from proteus.structures import Features

Encoder = Callable[[Tensor], Features]
"""Maps images ``(B, 3, H, W)`` in [0, 1] to features."""

SIDE = 112
_BATCH = 50
_NEIGHBOURS = 10
_STRENGTH = 0.01  # C of the logistic regressions, on standardised features
_CAMVID_CLASSES = 11
_CAMVID_SIZE = (224, 336)
_CAMVID_FRAMES = {"train": 90, "test": 60}
_CAMVID_PATCHES = 12_000
_SHARE_TO_FIT = 0.5  # of the photographs, for the linear map to the teacher
_RIDGE = 1e-2


@dataclass(frozen=True)
class Labelled:
    """Labelled images of one split.

    Attributes:
        images: ``(N, 3, 112, 112)`` uint8.
        labels: ``(N,)`` classes, or ``(N, 8, 8)`` classes of patches, -1 where there is none.
    """

    images: Tensor
    labels: np.ndarray


@dataclass(frozen=True)
class Pictures:
    """The pictures of an evaluation, in memory.

    Attributes:
        cifar: CIFAR-10 by split: ``train`` and ``test``.
        camvid: Tiles of CamVid by split.
        photographs: Unlabelled photographs, ``(N, 3, 112, 112)`` uint8.
    """

    cifar: Mapping[str, Labelled]
    camvid: Mapping[str, Labelled]
    photographs: Tensor


def load_pictures(data: Path, validation: bool = False, patch_size: int = 14) -> Pictures:
    """Read ``cifar10``, ``camvid`` and ``photos/bsds`` of a data folder.

    Args:
        data: Folder in the layout of docs/study.md.
        validation: Replace the test splits by parts of the training data, on which rates and recipes are chosen: every
            fourth image of CIFAR-10, CamVid's ``val``.
        patch_size: Side of the patches, for the labels of CamVid.
    """
    cifar = {split: _read_classes(data / "cifar10" / split) for split in ("train", "test")}
    if validation:
        held_out = np.arange(len(cifar["train"].labels)) % 4 == 0
        cifar = {split: _subset(cifar["train"], chosen) for split, chosen in (("train", ~held_out), ("test", held_out))}
    camvid = {
        split: _read_camvid(data / "camvid", "val" if validation and split == "test" else split, count, patch_size)
        for split, count in _CAMVID_FRAMES.items()
    }
    # Alternate photographs fit the linear map to the teacher and test it: no training picture is among them.
    photographs = [_square(Image.open(path)) for path in sorted((data / "photos/bsds").glob("*.jpg"))]
    return Pictures(cifar, camvid, torch.stack(photographs))


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
        figures["patch_cosine"] = _linear_agreement(photographs.patches, teacher.patches)
        figures["cls_cosine"] = _linear_agreement(photographs.cls[:, None], teacher.cls[:, None])
    return figures


def encode_all(encode: Encoder, images: Tensor) -> Features:
    """Encode uint8 images ``(N, 3, H, W)`` in batches."""
    with torch.inference_mode():
        found = [encode(batch.float() / 255) for batch in images.split(_BATCH)]
    return Features(torch.cat([each.cls for each in found]), torch.cat([each.patches for each in found]), found[0].grid)


def _evaluate_cifar(encode: Encoder, cifar: Mapping[str, Labelled]) -> dict[str, float]:
    fit, test = (encode_all(encode, cifar[split].images).cls for split in ("train", "test"))
    similarities = F.normalize(test, dim=1) @ F.normalize(fit, dim=1).T
    nearest = cifar["train"].labels[similarities.topk(_NEIGHBOURS).indices.numpy()]
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
    matrix = confusion_matrix(predicted, labels["test"][counted], _CAMVID_CLASSES)
    return float(mean_iou(matrix))


def _logistic(fit: Tensor, labels: np.ndarray, test: Tensor) -> np.ndarray:
    scaler = StandardScaler().fit(fit.numpy())
    regression = LogisticRegression(C=_STRENGTH, max_iter=500)
    predicted: np.ndarray = regression.fit(scaler.transform(fit.numpy()), labels).predict(scaler.transform(test.numpy()))
    return predicted


def _linear_agreement(student: Tensor, teacher: Tensor) -> float:
    """Centred cosine of a ridge regression to the teacher's tokens ``(B, N, D)``, on images that it did not see."""
    half = round(len(student) * _SHARE_TO_FIT)
    order = torch.randperm(len(student), generator=torch.Generator().manual_seed(0))
    fit, test = order[:half], order[half:]
    inputs, outputs = student[fit].flatten(0, 1).double(), teacher[fit].flatten(0, 1).double()
    mean, centre = inputs.mean(0), outputs.mean(0)
    gram = (inputs - mean).T @ (inputs - mean)
    gram += _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, (inputs - mean).T @ (outputs - centre))
    predicted = (student[test].flatten(0, 1).double() - mean) @ weight
    return float(F.cosine_similarity(predicted, teacher[test].flatten(0, 1).double() - centre, dim=1).mean())


def _square(image: Image.Image) -> Tensor:
    image = image.convert("RGB")
    scale = 128 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
    return _tensor(image.crop((left, top, left + SIDE, top + SIDE)))


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _read_classes(folder: Path) -> Labelled:
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    images, labels = [], []
    for label, directory in enumerate(classes):
        for path in sorted(directory.iterdir()):
            with Image.open(path) as image:
                images.append(_tensor(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
            labels.append(label)
    return Labelled(torch.stack(images), np.array(labels))


def _subset(labelled: Labelled, chosen: np.ndarray) -> Labelled:
    return Labelled(labelled.images[torch.from_numpy(chosen)], labelled.labels[chosen])


def _read_camvid(folder: Path, split: str, count: int, patch_size: int) -> Labelled:
    """Cut evenly spaced frames into tiles; a patch has the class of most of its pixels."""
    paths = sorted((folder / "images" / split).iterdir())
    height, width = _CAMVID_SIZE
    images, labels = [], []
    for path in (paths[index] for index in np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)):
        with Image.open(path) as image:
            frame = _tensor(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
        with Image.open(folder / "annotations" / split / f"{path.stem}.png") as image:
            classes = torch.from_numpy(np.array(image.resize((width, height), Image.Resampling.NEAREST))).long()
        for tile, mask in zip(_tiles(frame, SIDE), _tiles(classes[None], SIDE), strict=True):
            images.append(tile)
            labels.append([_majority(patch) for patch in _tiles(mask, patch_size)])
    grid = SIDE // patch_size
    return Labelled(torch.stack(images), np.array(labels).reshape(-1, grid, grid))


def _tiles(image: Tensor, side: int) -> Iterable[Tensor]:
    cut = image.unfold(1, side, side).unfold(2, side, side)  # (C, rows, columns, side, side)
    return cut.permute(1, 2, 0, 3, 4).flatten(0, 1)


def _majority(classes: Tensor) -> int:
    counts = torch.bincount(classes.flatten().clamp(max=_CAMVID_CLASSES), minlength=_CAMVID_CLASSES + 1)
    label = int(counts.argmax())
    return label if label < _CAMVID_CLASSES else -1
