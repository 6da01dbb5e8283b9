"""Query-balanced retrieval: equally many new gallery items for each query, nothing twice."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proteus.structures import DataError

Array = NDArray[np.float32]
# Neighbours asked of the index beyond what a query needs, before it is asked for more.
_SPARE = 4


@dataclass(frozen=True)
class Retrieved:
    """What was found, in the order in which it was dealt out: each query's first item, then each one's second.

    Attributes:
        items: ``(K,)`` int64, rows of the gallery, each at most once.
        queries: ``(K,)`` int64, the row of the query that took it.
        scores: ``(K,)`` float32, cosine of the two.
        short: How many items each query got that did not get as many as asked for, by its row.
        duplicates: Number of neighbours that were left out as copies of one that was taken.
    """

    items: NDArray[np.int64]
    queries: NDArray[np.int64]
    scores: Array
    short: dict[int, int]
    duplicates: int


def retrieve(
    gallery: Array, queries: Array, per_query: int, min_score: float = -1.0, duplicate: float | None = 0.99
) -> Retrieved:
    """Let the queries take turns at choosing their nearest gallery item that is still there.

    An item that several queries want goes to the one whose turn comes first, and the others go on to their next
    neighbour: so each query has equally many, as long as the gallery suffices (the seed's figure 2, right).

    Args:
        gallery: ``(N, D)``, features of the gallery's items, of any length but zero.
        queries: ``(Q, D)``, features of the target's images, likewise.
        per_query: Items for each query.
        min_score: Cosine below which an item is no neighbour.
        duplicate: Cosine from which an item counts as a copy of one that was taken, and is left out; None keeps copies.

    Raises:
        DataError: The gallery is empty, there is no query, features are not finite or zero, widths differ, or no query
            has a neighbour.
        ValueError: A number makes no sense.
        ImportError: faiss is not installed.
    """
    if per_query < 1:
        raise ValueError(f"per_query={per_query}: write how many items each query is to get, 1 or more")
    if not -1 <= min_score <= 1:
        raise ValueError(f"min_score={min_score}: write a cosine, from -1 to 1")
    if duplicate is not None and not 0 < duplicate <= 1:
        raise ValueError(f"duplicate={duplicate}: write a cosine above 0 and at most 1, or None to keep copies")
    gallery, queries = _unit("gallery", gallery), _unit("query set", queries)
    if gallery.shape[1] != queries.shape[1]:
        raise DataError(
            f"the gallery's features are {gallery.shape[1]} wide and the queries' {queries.shape[1]}: extract both "
            "with one backbone"
        )
    index = _index(gallery)
    depth = min(len(gallery), _SPARE * per_query)
    while True:
        scores, neighbours = index.search(queries, depth)
        copies = _Copies(gallery, np.unique(neighbours[scores >= min_score]), duplicate)
        found, starved = _deal(neighbours, scores, copies, per_query, min_score)
        if not starved or depth == len(gallery):
            break
        # What others took or what are copies has used up somebody's neighbours: look further.
        depth = min(len(gallery), _SPARE * depth)
    if not len(found.items):
        raise DataError(
            f"no query has a neighbour: no cosine reaches min_score={min_score}, the largest is {scores.max():.3f}; "
            "write a smaller one, or take a gallery that is nearer to the task"
        )
    return found


def same_class_precision(
    found: Retrieved, gallery_classes: Sequence[str], query_classes: Sequence[str]
) -> tuple[float, float]:
    """Judge a retrieval where gallery and queries happen to have labels.

    Args:
        found: The retrieval.
        gallery_classes: The class of each gallery item.
        query_classes: The class of each query.

    Returns:
        The share of retrieved items that have their query's class, and that share if the same number of items had been
        drawn at random for each query (chance), both in [0, 1].
    """
    wanted = [query_classes[query] for query in found.queries]
    right = np.mean([gallery_classes[item] == label for item, label in zip(found.items, wanted, strict=True)])
    names, counts = np.unique(np.asarray(gallery_classes), return_counts=True)
    share = dict(zip(names.tolist(), (counts / counts.sum()).tolist(), strict=True))
    return float(right), float(np.mean([share.get(label, 0.0) for label in wanted]))


def _deal(
    neighbours: NDArray[np.int64], scores: Array, copies: _Copies, per_query: int, min_score: float
) -> tuple[Retrieved, bool]:
    """Deal out the neighbours ``(Q, depth)``, nearest first; also say whether a longer list could give more."""
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
    """Which of the gallery's items that come into question are alike."""

    def __init__(self, gallery: Array, candidates: NDArray[np.int64], duplicate: float | None) -> None:
        self.candidates = candidates
        self.limits, self.alike = np.zeros(len(candidates) + 1, np.int64), np.empty(0, np.int64)
        if duplicate is not None:
            vectors = gallery[candidates]
            # The index gives what is strictly above the limit, and a vector's product with itself may be 0.9999999.
            self.limits, _, self.alike = _index(vectors).range_search(vectors, duplicate - 1e-5)

    def of(self, item: int) -> list[int]:
        """The copies of a candidate, without itself."""
        row = int(np.searchsorted(self.candidates, item))
        rows = self.alike[int(self.limits[row]) : int(self.limits[row + 1])]
        return [other for other in self.candidates[rows].tolist() if other != item]


def _unit(what: str, features: Array) -> Array:
    features = np.ascontiguousarray(features, np.float32)
    if features.ndim != 2 or not len(features):
        raise DataError(f"the {what} is empty: it has no image, its features have shape {features.shape}")
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    wrong = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if len(wrong):
        raise DataError(f"the {what}'s features are zero or not finite in {len(wrong)} rows, first in row {wrong[0]}")
    unit: Array = features / lengths
    return unit


def _index(gallery: Array) -> Any:
    """An exact index of inner products."""
    try:
        faiss = importlib.import_module("faiss")
    except ImportError as error:
        raise ImportError(f"{error}; retrieval needs faiss: `pip install faiss-cpu`") from error
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery)
    return index
