"""In-context segmentation by nearest patches (Balazevic et al., 2023, "Towards In-Context Scene Understanding")."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from proteus.evaluation.classifiers.knn import nearest_neighbours

_CLASSES_AT_ONCE = 16


def transfer_labels(
    memory: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    k: int = 30,
    temperature: float = 0.02,
    device: str | torch.device = "cpu",
    memory_chunk: int = 8192,
    query_chunk: int = 1024,
) -> np.ndarray:
    """Average the labels of each query's k nearest patches, weighted by ``softmax(cosine / temperature)``.

    The search is exact. ``memory_chunk * query_chunk`` similarities are in memory at once.

    Args:
        memory: Patch tokens ``(M, D)``.
        labels: Their shares of classes ``(M, C)``, each row with the sum 1.
        queries: Patch tokens ``(Q, D)``.
        k: Number of neighbours.
        temperature: Temperature of the softmax.
        device: Device of the search.
        memory_chunk: Patches of the memory compared at once.
        query_chunk: Queries compared at once.

    Returns:
        Shares of classes ``(Q, C)`` float32, each row with the sum 1.

    Raises:
        ValueError: A token is not finite or all zero, or there are fewer than ``k`` patches in the memory.
    """
    if k > len(memory):
        raise ValueError(f"k={k} neighbours of a memory of {len(memory)} patches: write at most {len(memory)}")
    cosines, neighbours = nearest_neighbours(
        memory, queries, k, device=torch.device(device), train_chunk=memory_chunk, test_chunk=query_chunk
    )
    known = torch.from_numpy(np.ascontiguousarray(labels, dtype=np.float32))
    transferred = torch.empty(len(queries), labels.shape[1])
    for start in range(0, len(queries), query_chunk):
        rows = slice(start, start + query_chunk)
        # In float64: the exponents reach 1 / 0.02 = 50.
        weights = (cosines[rows].double() / temperature).softmax(dim=1).float()
        transferred[rows] = torch.einsum("qk,qkc->qc", weights, known[neighbours[rows]])
    return transferred.numpy()


def upsample_classes(shares: np.ndarray, grid: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Enlarge the shares of classes of an image's patches bilinearly and take the largest in each pixel.

    Some classes at a time are enlarged, and those that no patch has are left out: an image of 4 megapixels with 150
    classes would take 2.4 GB.

    Args:
        shares: ``(h * w, C)``.
        grid: ``(h, w)``.
        size: ``(H, W)``.

    Returns:
        Classes ``(H, W)`` int64; of equal shares the lowest class.
    """
    maps = torch.from_numpy(np.ascontiguousarray(shares)).T.reshape(1, -1, *grid)
    present = maps.flatten(2).any(dim=2)[0].nonzero().flatten()
    best = torch.full(size, -torch.inf, dtype=maps.dtype)
    classes = torch.zeros(size, dtype=torch.int64)
    for some in present.split(_CLASSES_AT_ONCE):
        values, positions = _enlarged(maps[:, some], size).max(dim=0)
        better = values > best
        best = torch.where(better, values, best)
        classes = torch.where(better, some[positions], classes)
    return classes.numpy()


def _enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)[0]
