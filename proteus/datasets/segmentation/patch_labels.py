"""Labels of patches: the classes of the mask's pixels in each patch, and a sample that keeps rare classes."""

from __future__ import annotations

import numpy as np


def patch_labels(labels: np.ndarray, grid: tuple[int, int], num_classes: int) -> np.ndarray:
    """Compute the share of each class in the labelled pixels of each patch.

    The patches divide the mask evenly: pixel row ``r`` of ``H`` belongs to patch row ``floor(r * h / H)``. The mask is
    not resampled, and its sides need not be multiples of the grid's.

    Args:
        labels: ``(H, W)`` classes; negative pixels are ignored.
        grid: ``(h, w)``, rows and columns of patches.
        num_classes: Number of classes ``C``.

    Returns:
        ``(h * w, C)`` float32 in row-major order. Rows sum to 1; the row of a patch without a labelled pixel is zero.
    """
    (height, width), (rows, columns) = labels.shape, grid
    patches = (np.arange(height) * rows // height)[:, None] * columns + np.arange(width) * columns // width
    known = labels >= 0
    cells = patches[known] * num_classes + labels[known]
    counts = np.bincount(cells, minlength=rows * columns * num_classes).reshape(rows * columns, num_classes)
    return (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(np.float32)


def sample_patches(labels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Sample the patches of one image for a memory, patches of rare classes first.

    A patch's score is the sum, over the classes in it, of the number of patches that have the class, times a uniform
    random number; the lowest scores win (the sampling of open-hummingbird-eval). Here each class first gets the best
    patch that shows it, rarest class first, so that **no class of the image is lost if ``count`` is at least the number
    of its classes**. Patches without labelled pixels are never sampled.

    Args:
        labels: ``(N, C)`` from :func:`patch_labels`.
        count: Number of patches to sample.
        generator: Random numbers.

    Returns:
        Indices of the patches, ascending; fewer than ``count`` if fewer have labels.
    """
    present = labels > 0
    frequencies = present.sum(axis=0)
    scores = (present @ frequencies) * generator.random(len(labels))
    labelled = np.flatnonzero(present.any(axis=1))
    if len(labelled) <= count:
        return labelled
    ranked = labelled[np.argsort(scores[labelled], kind="stable")]
    chosen: list[int] = []
    covered = frequencies == 0
    for label in np.argsort(frequencies, kind="stable"):
        if not covered[label] and len(chosen) < count:
            best = ranked[present[ranked, label].argmax()]
            chosen.append(int(best))
            covered |= present[best]
    others = ranked[~np.isin(ranked, chosen)][: count - len(chosen)]
    return np.sort(np.concatenate([np.array(chosen, dtype=np.int64), others]))
