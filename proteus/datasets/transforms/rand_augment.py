"""RandAugment of timm for PIL images and arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN as MEAN
from timm.data.auto_augment import RandAugment, rand_augment_transform
from torch.utils.data import get_worker_info

from proteus.compat import change_operations, fix_posterize
from proteus.datasets.transforms.rand_augment_cv2 import ARRAY_OPS, Pixels
from proteus.registry import TRANSFORMS

fix_posterize()

# Parts of a policy; timm ignores unknown parts.
_PARTS = (
    "m[0-9]+",
    "n[1-9]",
    r"p(0?\.[0-9]+|1(\.0+)?)",
    r"mstd[0-9]+(\.[0-9]+)?",
    "mmax[1-9][0-9]*",
    "inc[01]",
    "t[a-z0-9]+",
)
_INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def check_policy(name: str, policy: str) -> RandAugment:
    """Check a policy of timm's RandAugment, including parts that timm would ignore.

    Args:
        name: Name of the argument, for the message.
        policy: The policy.

    Returns:
        timm's transform.

    Raises:
        ValueError: The policy is invalid.
    """
    try:
        unknown = [part for part in policy.split("-")[1:] if not re.fullmatch("|".join(_PARTS), part)]
        numbers = dict(re.findall(r"-(m|mmax)(\d+)", policy))
        if unknown or int(numbers.get("m", 0)) > int(numbers.get("mmax", 10)):
            raise ValueError("an unknown part, or a magnitude above the largest")
        return rand_augment_transform(policy, {})
    except (AssertionError, ValueError) as error:
        raise ValueError(
            f"{name}={policy!r} is not a RandAugment policy of timm; write one such as 'rand-m9-mstd0.5-inc1', with "
            "magnitudes up to 10"
        ) from error


@TRANSFORMS.register_module()
class TimmRandAugment:
    """timm's RandAugment, as DeiT and the released code use it (docs/reproduction.md#distillation-data).

    timm draws the operations and their magnitudes for PIL images and for arrays: the same key gives the same draws. PIL
    images are transformed by timm, arrays by :mod:`~proteus.datasets.transforms.rand_augment_cv2`, four times as fast.

    Args:
        policy: timm's description of magnitude, its standard deviation and the set of operations.
        mean: Channel means in [0, 1], with which geometric operations fill uncovered pixels.
        interpolation: Interpolation of geometric operations: ``bicubic`` as released, ``bilinear``, or ``random`` to
            draw one of the two each time.

    Raises:
        ValueError: ``policy`` or ``interpolation`` is invalid.
    """

    def __init__(
        self,
        policy: str = "rand-m9-mstd0.5-inc1",
        mean: Sequence[float] = MEAN,
        interpolation: str = "bicubic",
    ) -> None:
        if interpolation not in (*_INTERPOLATIONS, "random"):
            raise ValueError(
                f"TimmRandAugment.interpolation={interpolation!r}: write 'bicubic' as released, 'bilinear' or 'random'"
            )
        self.policy = policy
        self.fill = tuple(min(255, round(255 * channel)) for channel in mean)
        self.interpolation = interpolation
        self._built: dict[tuple[int, bool], Any] = {}
        check_policy("TimmRandAugment.policy", policy)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Apply two random operations; they shift by at most 45 % of the image's shorter side."""
        image = results["img"]
        is_array = isinstance(image, np.ndarray)
        if is_array and get_worker_info() is not None and cv2.getNumThreads() > 1:
            cv2.setNumThreads(0)  # a worker has one core, even if it was spawned
        shorter = min(image.shape[:2] if is_array else image.size)
        results["img"] = self._transform(int(shorter * 0.45), is_array)(image)
        return results

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the built transforms, which cannot be pickled."""
        return {**self.__dict__, "_built": {}}

    def _transform(self, max_shift: int, on_arrays: bool) -> Any:
        """Build timm's transform, once for each maximum shift in pixels."""
        if (max_shift, on_arrays) not in self._built:
            options: dict[str, Any] = {"translate_const": max_shift, "img_mean": self.fill}
            if self.interpolation != "random":
                options["interpolation"] = _INTERPOLATIONS[self.interpolation]
            transform = rand_augment_transform(self.policy, options)
            change_operations(
                transform, lambda name, on_pil: ARRAY_OPS.get(name, _OnPIL(on_pil)) if on_arrays else on_pil
            )
            self._built[max_shift, on_arrays] = transform
        return self._built[max_shift, on_arrays]


class _OnPIL:
    """Array operation that applies timm's operation to a PIL image.

    Args:
        operation: Operation of timm.
    """

    def __init__(self, operation: Callable[..., Image.Image]) -> None:
        self.operation = operation

    def __call__(self, image: Pixels, *arguments: Any, **options: Any) -> Pixels:
        """Convert to PIL, apply the operation, and convert back."""
        return np.array(self.operation(Image.fromarray(image), *arguments, **options))
