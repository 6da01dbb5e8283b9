"""In how many directions features spread."""

from __future__ import annotations

import torch
from torch import Tensor

# Of the features' own size: what is less is rounding of float32, and no direction.
_ROUNDING = 1e-6


def effective_rank(features: Tensor) -> float:
    """Effective rank of a set of features: ``exp`` of the entropy of their singular values, normalised to sum 1.

    ``exp(-sum p_k log p_k)`` with ``p_k = s_k / sum s`` (Roy and Vetterli, "The effective rank", EUSIPCO 2007, sec. 2;
    as a measure of self-supervised features without labels: RankMe, Garrido et al., ICML 2023, eq. 2). The singular
    values are of the *centred* features, where RankMe takes them as they are: tokens share a large mean, which would be
    one direction that hides the others, and a student that answers the mean alone is the collapse to be seen.

    A spread that is even over ``r`` directions gives ``r``; whatever the spread, no more than ``min(N - 1, D)``. So
    compare it with another network's on the same images, not with a number from elsewhere.

    Args:
        features: ``(N, D)``.

    Returns:
        Between 1 and ``min(N - 1, D)``; 0 where all features are the same, and NaN where one is not finite.

    Raises:
        ValueError: They are not ``(N, D)`` with at least two rows.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"the effective rank is of two features or more, (N, D); found {tuple(features.shape)}")
    if not features.isfinite().all():
        return float("nan")
    exact = features.double()
    centred = exact - exact.mean(0)
    # The eigenvalues of the smaller of the two products are the squares, and much cheaper than an SVD.
    product = centred.t() @ centred if centred.shape[1] <= len(centred) else centred @ centred.t()
    values = torch.linalg.eigvalsh(product).clamp(min=0).sqrt()
    values = values[values > _ROUNDING * exact.norm()]
    if len(values) == 0:
        return 0.0
    shares = values / values.sum()
    return float((-shares * shares.log()).sum().exp())
