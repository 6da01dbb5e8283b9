"""Corruptions of ImageNet-C, from the optional library imagecorruptions-imaug."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from importlib import import_module, metadata
from io import BytesIO
from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image

from proteus.datasets.seeding import seeded
from proteus.registry import TRANSFORMS
from proteus.utils.images import open_rgb

CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
"""Names of the corruptions, which are their folders in ImageNet-C."""
SEVERITIES = (1, 2, 3, 4, 5)
QUALITY = 85
"""JPEG quality of ImageNet-C."""
_LIBRARY = "imagecorruptions-imaug"
# These use a private generator, which is seeded by the clock unless a seed is given.
_NEED_SEED = ("impulse_noise", "glass_blur")
_MIN_SIDE = 32
_REMEDY = (
    "pip install scikit-image numba && pip install --no-deps imagecorruptions-imaug (without --no-deps it installs a "
    "second OpenCV over the present one)"
)


def library() -> str:
    """Return name and version of the corruption library, for reports.

    Raises:
        FileNotFoundError: The library is not installed.
    """
    try:
        return f"{_LIBRARY} {metadata.version(_LIBRARY)}"
    except metadata.PackageNotFoundError as error:
        raise FileNotFoundError(
            f"The package {_LIBRARY}, which generates ImageNet-C, is not installed: {_REMEDY}"
        ) from error


def check_corruptions(corruptions: Sequence[str], severities: Sequence[int]) -> None:
    """Check names of corruptions and severities.

    Raises:
        ValueError: A name or severity is unknown or repeated.
    """
    unknown = [name for name in corruptions if name not in CORRUPTIONS]
    if unknown or not corruptions or len(set(corruptions)) < len(corruptions):
        problem = f"unknown {', '.join(unknown)}; " if unknown else ""
        raise ValueError(f"corruptions={list(corruptions)}: {problem}choose from {', '.join(CORRUPTIONS)}, each once")
    if not severities or len(set(severities)) < len(severities) or not set(severities) <= set(SEVERITIES):
        raise ValueError(f"severities={list(severities)}: choose from 1, 2, 3, 4, 5, each once")


def corrupt(image: Image.Image, corruption: str, severity: int, name: str) -> Image.Image:
    """Corrupt an image. The output depends only on the pixels and the arguments.

    Args:
        image: RGB image of at least 32 px; 224 px in ImageNet-C.
        corruption: One of :data:`CORRUPTIONS`.
        severity: 1 to 5.
        name: ``WNID/IMAGE``, from which random numbers are seeded, together with corruption and severity.

    Returns:
        An image of the same size.

    Raises:
        FileNotFoundError: The library is not installed.
        ValueError: The corruption or severity is unknown, or the image is too small for the library.
    """
    check_corruptions([corruption], [severity])
    if min(image.size) < _MIN_SIDE:
        raise ValueError(
            f"{name} has {image.width} x {image.height} pixels; Corrupt needs at least {_MIN_SIDE} x {_MIN_SIDE}"
        )
    library()
    digest = sha1(f"{corruption}/{severity}/{name}".encode(errors="surrogateescape")).digest()
    with seeded(int.from_bytes(digest[:8], "big")):
        options = {"seed": int(np.random.randint(2**31))} if corruption in _NEED_SEED else {}
        pixels = import_module("imagecorruptions").corrupt(
            np.array(image), severity, corruption_name=corruption, **options
        )
    return Image.fromarray(pixels)


def encode(image: Image.Image) -> bytes:
    """Encode an image as JPEG with the settings of ImageNet-C's authors (hendrycks/robustness, make_imagenet_c.py)."""
    file = BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def image_name(path: str) -> str:
    """Return ``WNID/IMAGE`` of a path, which does not depend on the folder of the images."""
    return "/".join(PurePath(path).parts[-2:])


@TRANSFORMS.register_module()
class Corrupt:
    """Corrupt the PIL image by ``results['corruption']`` at ``results['severity']``, and compress it as a JPEG.

    After ``ResizeEdge(256, interpolation='bilinear')`` and ``CenterCrop(224)`` the output equals the files of
    ``tools/generate_imagenet_c.py``.
    """

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace ``results['img']``."""
        name = image_name(results["img_path"])
        corrupted = corrupt(results["img"], results["corruption"], results["severity"], name)
        # ImageNet-C's images are JPEGs; the compression is part of the corruption.
        results["img"] = open_rgb(encode(corrupted), results["img_path"])
        return results
