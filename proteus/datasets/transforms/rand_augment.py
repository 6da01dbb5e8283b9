"""timm's RandAugment, on PIL images and on arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN as MEAN
from timm.data.auto_augment import RandAugment as TimmRandAugment
from timm.data.auto_augment import rand_augment_transform
from torch.utils.data import get_worker_info

from proteus.compat import fix_posterize
from proteus.datasets.transforms.rand_augment_cv2 import ARRAY_OPS, Pixels
from proteus.registry import TRANSFORMS

fix_posterize()

# Parts of a policy; timm passes over those that it does not understand.
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


def check_policy(name: str, policy: str) -> TimmRandAugment:
    """Check a description of timm's RandAugment; timm passes over parts that it does not know.

    Args:
        name: Of the argument.
        policy: The description.

    Returns:
        timm's transform.

    Raises:
        ValueError: timm does not understand it, or would take something else.
    """
    try:
        unknown = [part for part in policy.split("-")[1:] if not re.fullmatch("|".join(_PARTS), part)]
        numbers = dict(re.findall(r"-(m|mmax)(\d+)", policy))
        if unknown or int(numbers.get("m", 0)) > int(numbers.get("mmax", 10)):
            raise ValueError("an unknown part, or a magnitude above the largest")
        return rand_augment_transform(policy, {})
    except (AssertionError, ValueError) as error:
        raise ValueError(
            f"{name}={policy!r} is no RandAugment of timm's; write one such as 'rand-m9-mstd0.5-inc1', with magnitudes "
            "up to 10"
        ) from error


@TRANSFORMS.register_module()
class RandAugment:
    """timm's RandAugment, as DeiT and the released code use it (docs/reproduction.md#distillation-data).

    timm draws the operations and their magnitudes, for PIL images and for arrays alike: the same key gives the same
    ones. A PIL image is changed by timm, an array by :mod:`~proteus.datasets.transforms.rand_augment_cv2`, four times as fast.

    Args:
        policy: timm's description: magnitude, its standard deviation, and the set of operations.
        mean: Channel means in [0, 1]; what a geometric operation uncovers is painted with them.
        interpolation: Of the geometric operations: ``bicubic`` as released, ``bilinear``, or ``random``, which draws
            one of the two each time.

    Raises:
        ValueError: timm does not understand ``policy``, or there is no such interpolation.
    """

    def __init__(
        self,
        policy: str = "rand-m9-mstd0.5-inc1",
        mean: Sequence[float] = MEAN,
        interpolation: str = "bicubic",
    ) -> None:
        if interpolation not in (*_INTERPOLATIONS, "random"):
            raise ValueError(
                f"RandAugment.interpolation={interpolation!r}: write 'bicubic' as released, 'bilinear' or 'random'"
            )
        self.policy = policy
        self.fill = tuple(min(255, round(255 * channel)) for channel in mean)
        self.interpolation = interpolation
        self._built: dict[tuple[int, bool], Any] = {}
        check_policy("RandAugment.policy", policy)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Apply two random operations; they shift by at most 45 % of the image's shorter side."""
        image = results["img"]
        is_array = isinstance(image, np.ndarray)
        if is_array and get_worker_info() is not None and cv2.getNumThreads() > 1:
            cv2.setNumThreads(0)  # a worker has one core, also where it was not forked from the runner
        shorter = min(image.shape[:2] if is_array else image.size)
        results["img"] = self._transform(int(shorter * 0.45), is_array)(image)
        return results

    def __getstate__(self) -> dict[str, Any]:
        """What is built holds functions that cannot be sent to another process; it is built anew there."""
        return {**self.__dict__, "_built": {}}

    def _transform(self, furthest: int, on_arrays: bool) -> Any:
        """The transform of timm, built once for each furthest shift in pixels."""
        if (furthest, on_arrays) not in self._built:
            options: dict[str, Any] = {"translate_const": furthest, "img_mean": self.fill}
            if self.interpolation != "random":
                options["interpolation"] = _INTERPOLATIONS[self.interpolation]
            transform = rand_augment_transform(self.policy, options)
            if on_arrays:
                for operation in transform.ops:
                    operation.aug_fn = ARRAY_OPS.get(operation.name, _ByPIL(operation.aug_fn))
            # numpy draws from an array as from a list, without making one of the list each time.
            transform.ops = np.array(transform.ops, dtype=object)
            self._built[furthest, on_arrays] = transform
        return self._built[furthest, on_arrays]


class _ByPIL:
    """An operation on arrays that has nothing faster than timm's on PIL images.

    Args:
        operation: timm's.
    """

    def __init__(self, operation: Callable[..., Image.Image]) -> None:
        self.operation = operation

    def __call__(self, image: Pixels, *arguments: Any, **options: Any) -> Pixels:
        """Go to PIL and back."""
        return np.array(self.operation(Image.fromarray(image), *arguments, **options))
