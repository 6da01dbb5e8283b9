"""Errors for invalid features and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from proteus.evaluation.input_checks import (
    check_rows_finite,
    checked_features,
    checked_labels,
    checked_multi_labels,
    to_numpy,
)


def test_a_memory_map_stays_on_disk_and_a_tensor_is_shared(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 2), np.float32))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert to_numpy(mapped) is mapped
    tensor = torch.zeros(3)
    to_numpy(tensor)[0] = 5
    assert tensor[0] == 5


def test_valid_values_are_kept() -> None:
    assert checked_labels(torch.tensor([0, 2], dtype=torch.int32), 3).tolist() == [0, 2]
    assert checked_multi_labels(np.array([[True, False]])).tolist() == [[1, 0]]
    features = checked_features(np.array([[1, 2]], np.float16))
    assert features.dtype == np.float64
    assert features.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [
        ([0, 3], 3, r"labels\[1\] is 3; labels must lie between 0 and 2"),
        ([0, -1], None, r"labels\[1\] is -1; labels must be 0 or more"),
        ([0.5], 3, "class indices"),
        ([], 3, "class indices"),
        ([[0]], 3, "class indices"),
    ],
)
def test_invalid_labels_raise(labels: Any, classes: int | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        checked_labels(np.array(labels), classes)


def test_invalid_multi_labels_and_features_raise() -> None:
    with pytest.raises(ValueError, match=r"labels\[0, 1\] is -1"):
        checked_multi_labels(np.array([[0, -1]]))
    with pytest.raises(ValueError, match=r"should be \(N, C\)"):
        checked_multi_labels(np.array([0, 1]))
    with pytest.raises(ValueError, match=r"should be \(N, D\)"):
        checked_features(np.zeros((0, 4)))
    with pytest.raises(ValueError, match="train: row 11 is not finite"):
        check_rows_finite(np.array([[0.0], [np.nan], [np.inf]]), "train", first_row=10)
