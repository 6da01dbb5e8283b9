"""Images for mmseg's transforms."""

from __future__ import annotations

from typing import Any

import numpy as np

from proteus.registry import TRANSFORMS
from proteus.utils.images import rgb_array


@TRANSFORMS.register_module()
class LoadBGRImage:
    """Read ``img_path`` as :class:`~proteus.datasets.LoadImage` does, as the BGR array that mmseg's transforms expect.

    It replaces mmcv's ``LoadImageFromFile``, which turns 16-bit pixels white and blends some kinds of alpha.
    """

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``img``, ``(H, W, 3)`` uint8, upright, and its size as ``img_shape`` and ``ori_shape``.

        Raises:
            CorruptImageError: The file cannot be read; the message has the path and the reason.
        """
        image = np.ascontiguousarray(rgb_array(results["img_path"])[..., ::-1])
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results
