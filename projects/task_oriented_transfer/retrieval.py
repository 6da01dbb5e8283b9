"""Query-balanced retrieval: the same number of distinct gallery items for each query."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proteus.structures import DataError

Array = NDArray[np.float32]
# Neighbours to search per item wanted, before a deeper search.
_SPARE = 4


@dataclass(frozen=True)
class Retrieved:
    """Result of a retrieval, in the order of assignment: the first item of each query, then the second of each.

    Attributes:
        items: ``(K,)`` int64, rows of the gallery, each at most once.
        queries: ``(K,)`` int64, row of the query that the item is assigned to.
        scores: ``(K,)`` float32, cosine of the two.
        short: Number of items of each query with fewer than requested, by row.
        duplicates: Number of neighbours skipped as copies of an assigned one.
    """

    items: NDArray[np.int64]
    queries: NDArray[np.int64]
    scores: Array
    short: dict[int, int]
    duplicates: int


def retrieve(
    gallery: Array, queries: Array, per_query: int, min_score: float = -1.0, duplicate: float | None = 0.99
) -> Retrieved:
    """Let the queries take turns to choose their nearest remaining gallery item.

    An item is assigned to the first query that chooses it; others continue with their next neighbour. So each query
    gets the same number, as long as the gallery suffices (the paper's figure 2, right).

    Args:
        gallery: ``(N, D)``, features of the gallery's items, not zero.
        queries: ``(Q, D)``, features of the target's images, not zero.
        per_query: Items per query.
        min_score: Smallest cosine of a neighbour.
        duplicate: Smallest cosine at which an item is skipped as a copy of an assigned one; None keeps copies.

    Raises:
        DataError: Gallery or queries are empty, features are zero or not finite, widths differ, or no query has a
            neighbour.
        ValueError: A number is out of range.
        ImportError: faiss is not installed.
    """
    check_retrieval(per_query, min_score, duplicate)
    gallery, queries = _unit("gallery", gallery), _unit("query set", queries)
    if gallery.shape[1] != queries.shape[1]:
        raise DataError(
            f"the gallery's features have width {gallery.shape[1]}, the queries' {queries.shape[1]}: extract both with "
            "the same backbone"
        )
    index = _index(gallery)
    depth = min(len(gallery), _SPARE * per_query)
    while True:
        scores, neighbours = index.search(queries, depth)
        copies = _Copies(gallery, np.unique(neighbours[scores >= min_score]), duplicate)
        found, starved = _deal(neighbours, scores, copies, per_query, min_score)
        if not starved or depth == len(gallery):
            break
        # Some query has no neighbours left, since others have them or they are copies: search deeper.
        depth = min(len(gallery), _SPARE * depth)
    if not len(found.items):
        raise DataError(
            f"no query has a neighbour: no cosine reaches min_score={min_score}, the largest is {scores.max():.3f}; "
            "lower it, or use a gallery closer to the task"
        )
    return found


def check_retrieval(per_query: int, min_score: float = -1.0, duplicate: float | None = 0.99) -> None:
    """Check the numbers of :func:`retrieve` and that faiss is installed, before a gallery is embedded.

    Raises:
        ValueError: A number is out of range.
        ImportError: faiss is not installed.
    """
    if per_query < 1:
        raise ValueError(f"per_query={per_query}: write the number of items per query, at least 1")
    if not -1 <= min_score <= 1:
        raise ValueError(f"min_score={min_score}: write a cosine, from -1 to 1")
    if duplicate is not None and not 0 < duplicate <= 1:
        raise ValueError(f"duplicate={duplicate}: write a cosine above 0 and at most 1, or None to keep copies")
    _faiss()


def same_class_precision(
    found: Retrieved, gallery_classes: Sequence[str], query_classes: Sequence[str]
) -> tuple[float, float]:
    """Measure a retrieval by the labels of gallery and queries.

    Args:
        found: The retrieval.
        gallery_classes: Class of each gallery item.
        query_classes: Class of each query.

    Returns:
        The share of retrieved items with their query's class, and the expected share of random items (chance), both in
        [0, 1].
    """
    wanted = [query_classes[query] for query in found.queries]
    right = np.mean([gallery_classes[item] == label for item, label in zip(found.items, wanted, strict=True)])
    names, counts = np.unique(np.asarray(gallery_classes), return_counts=True)
    share = dict(zip(names.tolist(), (counts / counts.sum()).tolist(), strict=True))
    return float(right), float(np.mean([share.get(label, 0.0) for label in wanted]))


def _deal(
    neighbours: NDArray[np.int64], scores: Array, copies: _Copies, per_query: int, min_score: float
) -> tuple[Retrieved, bool]:
    """Assign the neighbours ``(Q, depth)``, nearest first; also return whether a deeper search could give more."""
    taken: set[int] = set()
    left_out: set[int] = set()
    position = np.zeros(len(neighbours), np.int64)
    got = np.zeros(len(neighbours), np.int64)
    dealt: list[tuple[int, int, float]] = []
    starved = False
    for _ in range(per_query):
        for query in range(len(neighbours)):
            while position[query] < neighbours.shape[1]:
                at = position[query]
                item, score = int(neighbours[query, at]), float(scores[query, at])
                if score < min_score:
                    break
                position[query] += 1
                if item not in taken and item not in left_out:
                    dealt.append((item, query, score))
                    got[query] += 1
                    taken.add(item)
                    left_out.update(copies.of(item))
                    break
            else:
                starved = True
    items, takers, values = zip(*dealt, strict=True) if dealt else ((), (), ())
    short = {int(query): int(got[query]) for query in np.flatnonzero(got < per_query)}
    found = Retrieved(
        np.asarray(items, np.int64), np.asarray(takers, np.int64), np.asarray(values, np.float32), short, len(left_out)
    )
    return found, starved


class _Copies:
    """Copies among the candidate items of the gallery."""

    def __init__(self, gallery: Array, candidates: NDArray[np.int64], duplicate: float | None) -> None:
        self.candidates = candidates
        self.limits, self.alike = np.zeros(len(candidates) + 1, np.int64), np.empty(0, np.int64)
        if duplicate is not None:
            vectors = gallery[candidates]
            # The index returns products strictly above the limit, and a vector's with itself may be 0.9999999.
            self.limits, _, self.alike = _index(vectors).range_search(vectors, duplicate - 1e-5)

    def of(self, item: int) -> list[int]:
        """Return the copies of a candidate, without itself."""
        row = int(np.searchsorted(self.candidates, item))
        rows = self.alike[int(self.limits[row]) : int(self.limits[row + 1])]
        return [other for other in self.candidates[rows].tolist() if other != item]


def _unit(what: str, features: Array) -> Array:
    features = np.ascontiguousarray(features, np.float32)
    if features.ndim != 2 or not len(features):
        raise DataError(f"the {what} is empty: its features have shape {features.shape}")
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    wrong = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if len(wrong):
        raise DataError(f"the {what}'s features are zero or not finite in {len(wrong)} rows, first in row {wrong[0]}")
    unit: Array = features / lengths
    return unit


def _index(gallery: Array) -> Any:
    """Build an exact index of inner products."""
    index = _faiss().IndexFlatIP(gallery.shape[1])
    index.add(gallery)
    return index


def _faiss() -> Any:
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise ImportError(f"{error}; retrieval needs faiss: `pip install faiss-cpu`") from error
