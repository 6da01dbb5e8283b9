import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import run_code
from sklearn.neighbors import KNeighborsClassifier

from proteus.evaluation.classifiers.knn import knn_predict

CLASSES = 6


def clouds(number: int, seed: int, width: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Make overlapping classes, so that votes are split and weights decide."""
    centres = np.random.default_rng(99).standard_normal((CLASSES, width))
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, CLASSES, number)
    return centres[labels] + 2 * draw.standard_normal((number, width)), labels


TRAIN, LABELS = clouds(203, seed=0)
TEST, TEST_LABELS = clouds(57, seed=1)


@pytest.mark.parametrize("chunks", [(1000, 1000), (50, 20), (7, 100), (1, 57)])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_predictions_equal_scikit_learn(chunks: tuple[int, int], temperature: float) -> None:
    ks = (1, 5, 10, 20, 203)
    found = knn_predict(TRAIN, LABELS, TEST, ks, temperature, train_chunk=chunks[0], test_chunk=chunks[1])
    assert tuple(found) == ks
    for k in ks:
        other = KNeighborsClassifier(k, metric="cosine", weights=lambda far: np.exp((1 - far) / temperature))
        np.testing.assert_array_equal(found[k], other.fit(TRAIN, LABELS).predict(TEST))


def test_accuracy_is_above_chance_and_the_temperature_matters() -> None:
    found = {tau: knn_predict(TRAIN, LABELS, TEST, (20,), tau)[20] for tau in (0.07, 10.0)}
    assert (found[0.07] == TEST_LABELS).mean() > 2 / CLASSES
    assert (found[0.07] != found[10.0]).any()


@pytest.mark.parametrize("train_chunk", [500, 10, 3])
def test_leave_one_out_classifies_each_image_by_the_others(train_chunk: int) -> None:
    found = knn_predict(TRAIN, LABELS, ks=(3, 202), leave_one_out=True, train_chunk=train_chunk, test_chunk=40)
    for row in (0, 9, 10, 101, 202):
        others = np.arange(len(TRAIN)) != row
        alone = knn_predict(TRAIN[others], LABELS[others], TRAIN[row : row + 1], ks=(3, 202), num_classes=CLASSES)
        assert {k: classes[row] for k, classes in found.items()} == {k: classes[0] for k, classes in alone.items()}


def test_votes_by_hand() -> None:
    # Cosines to the test image: 1 for class 0; 0.6 twice for class 1.
    train, labels, test = np.array([[1.0, 0], [3, 4], [3, -4]]), np.array([0, 1, 1]), np.array([[2.0, 0]])
    # exp(0.4 / T) against 2: T = 0.07 says 0; T = 1 (1.49 against 2) says 1.
    assert knn_predict(train, labels, test, (3,))[3] == [0]
    assert knn_predict(train, labels, test, (3,), temperature=1)[3] == [1]


@pytest.mark.parametrize("train_chunk", [1, 2, 3, 6])
def test_ties_go_to_the_earlier_image_and_the_lower_class(train_chunk: int) -> None:
    train = np.array([[0.0, 1], [1, 0], [1, 0], [1, 0], [1, 0], [1, 0]], dtype=np.float32)
    labels = np.array([0, 3, 2, 2, 1, 1])
    found = knn_predict(train, labels, np.array([[5.0, 0]], dtype=np.float32), (1, 2, 3, 5), train_chunk=train_chunk)
    # Neighbours in order: 3, 2, 2, 1, 1. At k = 2, classes 3 and 2 tie; at k = 5, classes 2 and 1.
    assert {k: int(classes[0]) for k, classes in found.items()} == {1: 3, 2: 2, 3: 2, 5: 1}


def test_half_precision_torch_features_and_progress() -> None:
    seen: list[tuple[int, int]] = []
    double = knn_predict(TRAIN, LABELS, TEST)
    half = knn_predict(
        torch.tensor(TRAIN).half(), torch.tensor(LABELS), torch.tensor(TEST).half(), train_chunk=100,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert all((half[k] == double[k]).mean() > 0.95 for k in (10, 20))
    assert seen == [(100, 203), (200, 203), (203, 203)]


def changed(features: np.ndarray, row: int, value: float) -> np.ndarray:
    features = features.copy()
    features[row] = value
    return features


def test_invalid_input_raises() -> None:
    with pytest.raises(ValueError, match=r"train_features: row 150 is not finite \(holds nan\)"):
        knn_predict(changed(TRAIN, 150, np.nan), LABELS, TEST, train_chunk=60)
    with pytest.raises(ValueError, match=r"test_features: row 33 is not finite \(holds inf\)"):
        knn_predict(TRAIN, LABELS, changed(TEST, 33, np.inf), test_chunk=10)
    with pytest.raises(ValueError, match="train_features: row 61 is all zeros"):
        knn_predict(changed(TRAIN, 61, 0), LABELS, TEST, train_chunk=60)
    with pytest.raises(ValueError, match=r"ks=\(10, 204\): each k should lie between 1 and 203"):
        knn_predict(TRAIN, LABELS, TEST, (10, 204))
    with pytest.raises(ValueError, match="between 1 and 202"):
        knn_predict(TRAIN, LABELS, ks=(203,), leave_one_out=True)
    with pytest.raises(ValueError, match=r"\(203, 16\) and \(57, 9\): were both made by the same backbone"):
        knn_predict(TRAIN, LABELS, TEST[:, :9])
    with pytest.raises(ValueError, match="203 images and 200 labels"):
        knn_predict(TRAIN, LABELS[:200], TEST)
    with pytest.raises(ValueError, match=r"train_labels\[\d+\] is 5; labels must lie between 0 and 4"):
        knn_predict(TRAIN, LABELS, TEST, num_classes=5)
    with pytest.raises(ValueError, match="either test_features or leave_one_out"):
        knn_predict(TRAIN, LABELS, TEST, leave_one_out=True)
    with pytest.raises(ValueError, match="either test_features or leave_one_out"):
        knn_predict(TRAIN, LABELS)
    with pytest.raises(ValueError, match="should be positive"):
        knn_predict(TRAIN, LABELS, TEST, temperature=0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's RLIMIT_DATA excludes file mappings")
def test_features_that_do_not_fit_in_memory(tmp_path: Path) -> None:
    """Search 300 MB on disk with 100 MB of memory in addition to the imports."""
    rows, width = 400_000, 192
    stored = np.lib.format.open_memmap(tmp_path / "train.npy", mode="w+", dtype=np.float32, shape=(rows, width))
    draw = np.random.default_rng(0)
    for start in range(0, rows, 20_000):
        stored[start : start + 20_000] = draw.random((20_000, width), dtype=np.float32) - 0.5
    stored.flush()
    program = """
import resource, sys
import numpy as np, torch
from proteus.evaluation.classifiers.knn import knn_predict
train = np.load(sys.argv[1], mmap_mode="r")
knn_predict(train[:999], np.arange(999), train[:9])
taken = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (taken + 100 * 2**20,) * 2)
try:
    np.array(train)
except MemoryError:
    print("too large to load")
picked = np.array([7, 123_456, 399_999])
print(knn_predict(train, np.arange(len(train)) % 1000, train[picked], ks=(1,))[1].tolist())
"""
    done = run_code(program, tmp_path / "train.npy")
    assert done.stdout.splitlines()[-2:] == ["too large to load", "[7, 456, 999]"], done.stderr
