import sys

import numpy as np
import pytest

from projects.task_oriented_transfer.retrieval import retrieve, same_class_precision
from proteus.structures import DataError


def features(count: int, seed: int, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def by_brute_force(gallery, queries, per_query, min_score=-1.0, duplicate=None):
    """In each round, each query takes the nearest remaining item, by comparing with all of them."""
    gallery = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    left = np.ones(len(gallery), bool)
    found = []
    for _ in range(per_query):
        for number, query in enumerate(queries):
            scores = np.where(left, gallery @ query, -np.inf)
            item = int(scores.argmax())
            if scores[item] < min_score:
                continue
            found.append((item, number))
            left[item] = False
            if duplicate is not None:
                left[gallery @ gallery[item] >= duplicate] = False
    return found


@pytest.mark.parametrize("per_query", [1, 3, 12])
@pytest.mark.parametrize("limits", [{}, {"min_score": 0.3}, {"duplicate": 0.8}, {"min_score": 0.1, "duplicate": 0.9}])
def test_equals_brute_force(per_query, limits):
    gallery, queries = features(120, 0), features(9, 1)

    found = retrieve(gallery, queries, per_query, **{"duplicate": None, **limits})

    expected = by_brute_force(gallery, queries, per_query, **limits)
    assert list(zip(found.items.tolist(), found.queries.tolist(), strict=True)) == expected
    unit = [array / np.linalg.norm(array, axis=1, keepdims=True) for array in (gallery, queries)]
    cosines = [unit[0][item] @ unit[1][query] for item, query in expected]
    np.testing.assert_allclose(found.scores, cosines, atol=1e-6)


def test_queries_with_the_same_neighbours_get_the_same_number():
    # Nearly equal queries have the same neighbours.
    queries = np.float32([1, 0, 0]) + 0.01 * features(5, 2, 3)

    found = retrieve(features(60, 3, 3), queries, 8, duplicate=None)

    assert np.bincount(found.queries).tolist() == [8] * 5
    assert len(set(found.items.tolist())) == 40
    assert found.short == {}


def test_copies_of_any_length_are_skipped():
    gallery = features(10, 4)
    copies = np.concatenate([gallery, 3 * gallery, gallery])

    found = retrieve(copies, features(2, 5), 5)

    assert sorted(found.items % 10) == list(range(10))
    assert found.duplicates == 20


def test_an_equal_pair_is_a_copy_at_duplicate_1():
    found = retrieve(np.float32([[0.3, 0.7], [0.3, 0.7], [1, 0]]), np.float32([[0, 1]]), 3, duplicate=1.0)

    assert found.items.tolist() in ([0, 2], [1, 2])
    assert found.duplicates == 1


def test_queries_without_neighbours_are_reported():
    gallery = np.float32([[1, 0, 0], [0.9, 0.1, 0]])

    found = retrieve(gallery, np.float32([[1, 0, 0], [0, 0, 1]]), 1, min_score=0.5, duplicate=None)

    assert found.items.tolist() == [0]
    assert found.short == {1: 0}


def test_small_galleries_are_shared_evenly():
    found = retrieve(features(7, 6), features(3, 7), 4, duplicate=None)

    assert np.bincount(found.queries).tolist() == [3, 2, 2]
    assert found.short == {0: 3, 1: 2, 2: 2}


def test_precision_and_chance():
    found = retrieve(
        np.float32([[1, 0], [0, 1], [0.9, 0.1], [0.1, 1]]), np.float32([[1, 0], [0, 1]]), 2, duplicate=None
    )

    # The first query gets items 0 and 2, the second 1 and 3: three of four have their query's class.
    right, chance = same_class_precision(found, ["a", "b", "b", "b"], ["a", "b"])

    assert found.items.tolist() == [0, 1, 2, 3]
    assert right == pytest.approx(3 / 4)
    assert chance == pytest.approx((1 / 4 + 3 / 4) / 2)


@pytest.mark.parametrize(
    ("gallery", "queries", "message"),
    [
        (np.zeros((0, 4), np.float32), features(2, 0, 4), "the gallery is empty"),
        (features(3, 0, 4), np.zeros((0, 4), np.float32), "the query set is empty"),
        (features(3, 0, 4), features(2, 0, 5), "width 4, the queries' 5: extract both with the same backbone"),
        (
            np.float32([[1, 1], [0, 0]]),
            features(2, 0, 2),
            r"features are zero or not finite in 1 rows.* row 1",
        ),
        (np.float32([[1, 1], [np.nan, 0]]), features(2, 0, 2), "not finite in 1 rows, first in row 1"),
    ],
)
def test_invalid_features_are_rejected(gallery, queries, message):
    with pytest.raises(DataError, match=message):
        retrieve(gallery, queries, 1)


def test_min_score_above_all_cosines_is_rejected():
    with pytest.raises(DataError, match=r"no cosine reaches min_score=0.9, the largest is 0.000"):
        retrieve(np.float32([[1, 0]]), np.float32([[0, 1]]), 1, min_score=0.9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"per_query": 0}, "per_query=0"),
        ({"per_query": 1, "min_score": 2.0}, "min_score=2.0: write a cosine"),
        ({"per_query": 1, "duplicate": 0.0}, "duplicate=0.0: write a cosine above 0"),
    ],
)
def test_numbers_out_of_range_are_rejected(arguments, message):
    with pytest.raises(ValueError, match=message):
        retrieve(features(3, 0), features(2, 1), **arguments)


def test_missing_faiss_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)

    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        retrieve(features(3, 0), features(2, 1), 1)
