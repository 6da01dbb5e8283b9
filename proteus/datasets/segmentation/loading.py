"""Load images for mmseg's transforms."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from proteus.registry import TRANSFORMS
from proteus.utils.images import rgb_array


@TRANSFORMS.register_module()
class LoadBGRImage:
    """Load ``img_path`` as :class:`~proteus.datasets.LoadImage` does, but as a BGR array for mmseg's transforms.

    Use it in place of mmcv's ``LoadImageFromFile``, which turns 16-bit pixels white and blends some kinds of alpha.
    """

    reads_files: ClassVar[bool] = True

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the upright image ``img``, ``(H, W, 3)`` uint8, and its size as ``img_shape`` and ``ori_shape``.

        Raises:
            CorruptImageError: The file cannot be read; the message has the path and the reason.
        """
        image = np.ascontiguousarray(rgb_array(results["img_path"])[..., ::-1])
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results
