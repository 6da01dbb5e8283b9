"""DINO's weighted k-nearest-neighbour classifier of frozen features."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from proteus.evaluation.float64 import float64_device
from proteus.evaluation.input_checks import Array, check_rows_finite, checked_labels, is_integer, to_numpy

_CPU = torch.device("cpu")


def knn_predict(
    train_features: Array,
    train_labels: Array,
    test_features: Array | None = None,
    ks: Sequence[int] = (10, 20),
    temperature: float = 0.07,
    num_classes: int | None = None,
    leave_one_out: bool = False,
    device: str | torch.device = "cpu",
    train_chunk: int = 8192,
    test_chunk: int = 1024,
    progress: Callable[[int, int], None] | None = None,
) -> dict[int, np.ndarray]:
    """Classify each test image by a vote of its k nearest train images (Caron et al., 2021, sec. 4.1 and app. F.1).

    Neighbours are ranked by cosine similarity, and each votes for its label with weight ``exp(cosine / temperature)``.
    Both sides may be memory maps that do not fit in RAM: only ``train_chunk + test_chunk`` rows of features, their
    similarities, and the best neighbours of each test image are in memory at once. One search, for the largest k,
    serves all ``ks``. Ties between train images go to the earlier one and ties between classes to the lower one, so
    that chunk sizes change nothing but rounding.

    The search is a matrix product and a running top-k in torch. faiss' flat index finds the same neighbours 1.3 times
    as fast on one thread (50,000 x 2,000 images, D = 384), which does not justify a package of 65 MB, given hours of
    feature extraction; on a GPU it would be a different package again.

    Args:
        train_features: ``(N, D)``, of any floating dtype. Similarities are of float32, or float64 if that is.
        train_labels: ``(N,)`` class indices.
        test_features: ``(M, D)``; None with ``leave_one_out``.
        ks: Numbers of neighbours, each at least 1.
        temperature: Temperature of the vote; a lower one gives the nearest neighbours more weight.
        num_classes: Number of classes; None: up to the largest label.
        leave_one_out: Classify each train image by the others, for small sets without a test split.
        device: Device of the search.
        train_chunk: Train images compared at once.
        test_chunk: Test images compared at once.
        progress: Called with the number of train images compared so far and in total.

    Returns:
        Predicted classes ``(M,)`` int64 by k, in the order of the test images.

    Raises:
        ValueError: Widths or lengths differ, a label is out of range, a k is larger than the number of neighbours,
            or features are NaN, infinite or all zero (a zero vector has no direction).
    """
    train, labels = to_numpy(train_features), checked_labels(train_labels, num_classes, "train_labels")
    if leave_one_out != (test_features is None):
        raise ValueError(
            "give either test_features or leave_one_out=True, which classifies each train image by the others"
        )
    test = train if test_features is None else to_numpy(test_features)
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1] or len(test) == 0:
        raise ValueError(
            f"train_features and test_features should be (N, D) and (M, D) with the same D; found {train.shape} "
            f"and {test.shape}: were both made by the same backbone?"
        )
    if len(labels) != len(train):
        raise ValueError(f"expected one label per train image; found {len(train)} images and {len(labels)} labels")
    neighbours = len(train) - leave_one_out
    if not ks or not all(is_integer(k) and 1 <= k <= neighbours for k in ks):
        raise ValueError(f"ks={tuple(ks)}: each k should lie between 1 and {neighbours}, the number of neighbours")
    if not 0 < temperature < np.inf or train_chunk < 1 or test_chunk < 1:
        raise ValueError(f"temperature and chunks should be positive; found {temperature}, {train_chunk}, {test_chunk}")

    similarities, neighbour_indices = nearest_neighbours(
        train, test, max(ks), leave_one_out, torch.device(device), train_chunk, test_chunk, progress
    )
    classes = num_classes or int(labels.max()) + 1
    predictions = {k: np.empty(len(test), dtype=np.int64) for k in ks}
    for start in range(0, len(test), test_chunk):
        rows = slice(start, start + test_chunk)
        # In float64: the strongest vote is e^(2 / 0.07) = 10^12 times the weakest.
        weights = np.exp((similarities[rows].double().numpy() - 1) / temperature)
        ballots = labels[neighbour_indices[rows].numpy()]
        for k, predicted in predictions.items():
            votes = np.zeros((len(ballots), classes))
            np.add.at(votes, (np.arange(len(ballots))[:, None], ballots[:, :k]), weights[:, :k])
            predicted[rows] = votes.argmax(axis=1)
    return predictions


def nearest_neighbours(
    train: np.ndarray,
    test: np.ndarray,
    k: int,
    leave_one_out: bool = False,
    device: torch.device = _CPU,
    train_chunk: int = 8192,
    test_chunk: int = 1024,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the k rows of ``train`` with the largest cosine to each row of ``test``; see :func:`knn_predict`.

    Returns:
        Cosines and indices of the train rows, both ``(M, k)`` on the CPU, nearest first.

    Raises:
        ValueError: Features are NaN, infinite or all zero.
    """
    dtype = torch.float64 if np.float64 in (train.dtype, test.dtype) else torch.float32
    if dtype == torch.float64:
        device = float64_device(device)
    best: list[tuple[Tensor, Tensor] | None] = [None] * -(-len(test) // test_chunk)
    # The outer loop reads the train set, which is larger and may be on disk, only once.
    for offset in range(0, len(train), train_chunk):
        keys = _unit_rows(train[offset : offset + train_chunk], "train_features", offset, dtype, device)
        for index, start in enumerate(range(0, len(test), test_chunk)):
            queries = _unit_rows(test[start : start + test_chunk], "test_features", start, dtype, device)
            similarities = queries @ keys.t()
            if leave_one_out:
                rows = torch.arange(len(queries), device=device)
                own = rows + start - offset
                here = (own >= 0) & (own < len(keys))
                similarities[rows[here], own[here]] = -torch.inf
            values, columns = _first_largest(similarities, k)
            columns += offset
            earlier = best[index]
            if earlier is not None:
                # The sort is stable and earlier train images come first, so ties keep the earlier image.
                values, order = torch.cat([earlier[0], values], 1).sort(dim=1, descending=True, stable=True)
                columns = torch.cat([earlier[1], columns], 1).gather(1, order)
            best[index] = values[:, :k].contiguous(), columns[:, :k].contiguous()
        if progress is not None:
            progress(min(offset + train_chunk, len(train)), len(train))
    pairs = [pair for pair in best if pair is not None]
    return torch.cat([values for values, _ in pairs]).cpu(), torch.cat([columns for _, columns in pairs]).cpu()


def _first_largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row and their columns, largest first, ties in order of columns."""
    if values.shape[1] <= k:
        return values.sort(dim=1, descending=True, stable=True)
    # topk is much faster than a sort, but its choice among ties is arbitrary: one more than k shows where it matters.
    largest, columns = values.topk(k + 1, dim=1)
    tied = (largest[:, 1:] == largest[:, :-1]).any(dim=1)
    if tied.any():
        ordered, places = values[tied].sort(dim=1, descending=True, stable=True)
        largest[tied], columns[tied] = ordered[:, : k + 1], places[:, : k + 1]
    return largest[:, :k], columns[:, :k]


def _unit_rows(rows: np.ndarray, name: str, first_row: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Normalise rows ``(n, D)`` to unit length, on the device."""
    # Copy: torch does not accept a slice of a read-only memory map.
    features = torch.from_numpy(np.array(rows, dtype=np.float64 if dtype == torch.float64 else np.float32)).to(device)
    lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    if not lengths.isfinite().all():
        check_rows_finite(np.asarray(rows), name, first_row)
        raise ValueError(f"{name}: the norm of a row (from row {first_row}) overflows {dtype}; give float64 features")
    if not lengths.all():
        row = first_row + int((lengths == 0).flatten().float().argmax())
        raise ValueError(f"{name}: row {row} is all zeros, so its cosine is undefined. Was its image encoded?")
    return features / lengths
