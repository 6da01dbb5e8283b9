"""Transferred labels against a naive NumPy version and scikit-learn, and their upsampling against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from proteus.evaluation.classifiers.dense_knn import transfer_labels, upsample_classes
from proteus.evaluation.classifiers.knn import nearest_neighbours


def drawn(patches: int = 300, queries: int = 70, width: int = 16, classes: int = 7) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(0)
    labels = generator.dirichlet(np.full(classes, 0.3), patches).astype(np.float32)
    return generator.normal(size=(patches, width)), labels, generator.normal(size=(queries, width))


def naive(memory: np.ndarray, labels: np.ndarray, queries: np.ndarray, k: int, temperature: float) -> np.ndarray:
    result = np.zeros((len(queries), labels.shape[1]))
    for row, query in enumerate(queries):
        cosines = memory @ query / np.linalg.norm(memory, axis=1) / np.linalg.norm(query)
        nearest = np.argsort(-cosines)[:k]
        weights = np.exp((cosines[nearest] - cosines[nearest].max()) / temperature)
        result[row] = weights / weights.sum() @ labels[nearest]
    return result


def test_four_patches_and_two_classes() -> None:
    memory = np.array([[1.0, 0], [0, 2], [-1, 0], [0, -3]])
    labels = np.array([[1.0, 0], [0.5, 0.5], [0, 1], [0, 1]])
    # Cosines of (3, 4) are 0.6 and 0.8 with the first two patches: weights e^(0.6 / T) to e^(0.8 / T).
    share = 1 / (1 + np.exp(0.2 / 0.1))
    found = transfer_labels(memory, labels, np.array([[3.0, 4.0]]), k=2, temperature=0.1)
    np.testing.assert_allclose(found, [[share + (1 - share) / 2, (1 - share) / 2]], rtol=1e-6)


@pytest.mark.parametrize(("k", "temperature", "chunk"), [(1, 0.02, 300), (30, 0.02, 41), (300, 1.0, 1000)])
def test_labels_equal_the_naive_version(k: int, temperature: float, chunk: int) -> None:
    memory, labels, queries = drawn()
    found = transfer_labels(memory, labels, queries, k, temperature, memory_chunk=chunk, query_chunk=33)
    np.testing.assert_allclose(found, naive(memory, labels, queries, k, temperature), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_the_search_equals_scikit_learn() -> None:
    memory, _, queries = drawn()
    cosines, neighbours = nearest_neighbours(memory, queries, 30, train_chunk=64, test_chunk=16)
    far, expected = NearestNeighbors(n_neighbors=30, metric="cosine").fit(memory).kneighbors(queries)
    assert np.array_equal(neighbours.numpy(), expected)
    np.testing.assert_allclose(cosines.numpy(), 1 - far, atol=1e-12)


def test_more_neighbours_than_patches_raise() -> None:
    memory, labels, queries = drawn(patches=5)
    with pytest.raises(ValueError, match="k=6 neighbours of a memory of 5 patches"):
        transfer_labels(memory, labels, queries, k=6)


@pytest.mark.parametrize(("grid", "size"), [((3, 5), (31, 47)), ((4, 4), (4, 4)), ((2, 3), (1, 2))])
def test_upsampled_classes_equal_those_of_all_maps_at_once(grid: tuple[int, int], size: tuple[int, int]) -> None:
    shares = np.random.default_rng(0).dirichlet(np.full(40, 0.05), grid[0] * grid[1]).astype(np.float32)
    shares[:, 7] = 0
    maps = torch.from_numpy(shares).T.reshape(1, 40, *grid)
    whole = torch.nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)[0]
    assert np.array_equal(upsample_classes(shares, grid, size), whole.argmax(dim=0).numpy())


def test_equal_shares_give_the_lowest_class() -> None:
    shares = np.full((4, 40), 1 / 40, np.float32)
    assert not upsample_classes(shares, (2, 2), (5, 5)).any()
