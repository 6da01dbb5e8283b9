"""Errors of depth maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from proteus.evaluation.float64 import in_float64
from proteus.evaluation.metrics.checked import CheckedMetric, check_values_finite
from proteus.registry import METRICS
from proteus.structures import DataError

NAMES = ("d1", "d2", "d3", "abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog")
CROPS = ("eigen", "garg", None)


@METRICS.register_module()
class DepthMetric(CheckedMetric):
    """Nine errors of depth maps (Eigen et al. 2014 and later work), averaged over images.

    ``d1``, ``d2``, ``d3``: fraction of pixels with ``max(p / t, t / p)`` below 1.25, 1.25^2, 1.25^3. ``abs_rel``,
    ``sq_rel``: mean of ``|p - t| / t`` and ``(p - t)^2 / t``. ``rmse`` in metres, ``rmse_log`` of the natural
    logarithm, ``log10``: mean of ``|log10 p - log10 t|``. ``silog``: ``sqrt(mean e^2 - lambda mean(e)^2)`` with
    ``e = log p - log t``. Only pixels with ``min_depth < t < max_depth`` within the crop count.

    A prediction that is not positive has no logarithm and no ratio: ``d1`` to ``d3`` and the logarithms use
    ``min_depth`` instead. mmseg's metric gives NaN for the logarithms and counts it as correct in ``d1``.

    Args:
        min_depth: Metres.
        max_depth: Metres.
        crop: ``eigen``: rows 45 to 470 and columns 41 to 600 of 480x640, for NYU; ``garg``: Garg et al.'s crop for any
            size, for KITTI; None: all pixels.
        clamp: Clamp predictions to [min_depth, max_depth] first; the released code does not.
        silog_lambda: 0.5 as in the released code; 1 as in the toolbox and KITTI.
        silog_scale: 1 as in the released code; 100 as in the toolbox.
        **metric: Arguments of MMEngine's metrics.

    Raises:
        ValueError: An argument is out of range.
    """

    default_prefix = "depth"
    metric_names = NAMES

    def __init__(
        self,
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        crop: str | None = "eigen",
        clamp: bool = False,
        silog_lambda: float = 0.5,
        silog_scale: float = 1.0,
        **metric: Any,
    ) -> None:
        super().__init__(**metric)
        if crop not in CROPS:
            raise ValueError(f"DepthMetric.crop={crop!r}: choose from {', '.join(map(repr, CROPS))}")
        if not 0 < min_depth < max_depth:
            raise ValueError(
                f"DepthMetric.min_depth={min_depth}, max_depth={max_depth}: metres, the first smaller than the second"
            )
        if not 0 <= silog_lambda <= 1:
            raise ValueError(f"DepthMetric.silog_lambda={silog_lambda}: write a number from 0 to 1")
        self.min_depth, self.max_depth, self.crop, self.clamp = min_depth, max_depth, crop, clamp
        self.silog_lambda, self.silog_scale = silog_lambda, silog_scale

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Compare ``depth`` ``(H, W)`` of each image with ``gt_depth`` ``(H, W)``, both in metres.

        Raises:
            DataError: An image has no ground truth, none within range and crop, or one of a size that the crop does
                not support; or its predicted depth is not finite.
        """
        for sample in data_samples:
            name = sample.get("img_path", "an image")
            if "gt_depth" not in sample:
                raise DataError(f"{name} has no ground-truth depth, which DepthMetric needs")
            target, depth = sample["gt_depth"], sample["depth"]
            valid = (target > self.min_depth) & (target < self.max_depth)
            valid &= crop_mask(target, self.crop, str(name))
            if not valid.any():
                raise DataError(
                    f"{name} has no ground-truth depth between {self.min_depth} and {self.max_depth} m within the crop "
                    f"({self.crop}): is it in metres? (depth_scale of the data set)"
                )
            if depth.shape != target.shape:
                raise DataError(
                    f"{name}: predicted depth has {tuple(depth.shape)} px and the ground truth {tuple(target.shape)} px"
                )
            check_values_finite(depth[valid], f"{name}: the predicted depth")
            self.results.append(self.errors(in_float64(depth[valid]), in_float64(target[valid])))

    def errors(self, depth: Tensor, target: Tensor) -> dict[str, float]:
        """Compute the nine errors over the pixels ``(N,)`` of one image."""
        if self.clamp:
            depth = depth.clamp(self.min_depth, self.max_depth)
        positive = torch.where(depth > 0, depth, self.min_depth)
        ratio = torch.maximum(positive / target, target / positive)
        difference, logarithm = depth - target, positive.log() - target.log()
        scale_invariant = logarithm.square().mean() - self.silog_lambda * logarithm.mean().square()
        values = (
            *((ratio < 1.25**power).double().mean() for power in (1, 2, 3)),
            (difference.abs() / target).mean(),
            (difference.square() / target).mean(),
            difference.square().mean().sqrt(),
            logarithm.square().mean().sqrt(),
            (logarithm.abs() / torch.log(torch.tensor(10.0, dtype=torch.float64))).mean(),
            # Rounding may give a negative value if all errors are equal.
            self.silog_scale * scale_invariant.clamp(min=0).sqrt(),
        )
        return dict(zip(NAMES, torch.stack(values).tolist(), strict=True))

    def compute_metrics(self, results: list[dict[str, float]]) -> dict[str, float]:
        """Return the mean of each error over the images."""
        self.check_not_empty(results)
        return {name: sum(result[name] for result in results) / len(results) for name in NAMES}


def crop_mask(target: Tensor, crop: str | None, name: str = "an image") -> Tensor:
    """Return the pixels of a depth map ``(H, W)`` inside a crop, ``(H, W)`` bool.

    Raises:
        DataError: Eigen's crop is used with a map that is not 480x640.
    """
    mask = torch.zeros_like(target, dtype=torch.bool)
    height, width = target.shape
    if crop == "eigen":
        if (height, width) != (480, 640):
            raise DataError(
                f"{name}: ground truth of {height}x{width} px, but Eigen's crop needs NYU's 480x640; write crop=None "
                "(all pixels) or 'garg' in val_evaluator and test_evaluator"
            )
        mask[45:471, 41:601] = True
    elif crop == "garg":
        mask[int(0.40810811 * height) : int(0.99189189 * height), int(0.03594771 * width) : int(0.96405229 * width)] = (
            True
        )
    else:
        mask[:] = True
    return mask
