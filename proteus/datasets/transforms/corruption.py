"""ImageNet-C's corruptions, by the library imagecorruptions-imaug (an optional dependency)."""

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
"""By the names of their folders in ImageNet-C."""
SEVERITIES = (1, 2, 3, 4, 5)
QUALITY = 85
"""Of ImageNet-C's JPEGs."""
_LIBRARY = "imagecorruptions-imaug"
# These draw from a generator of their own, seeded by the clock unless a seed is given.
_OWN_RANDOMNESS = ("impulse_noise", "glass_blur")
_LEAST = 32
_REMEDY = (
    "pip install scikit-image numba && pip install --no-deps imagecorruptions-imaug (without --no-deps it brings a "
    "second OpenCV over the installed one)"
)


def library() -> str:
    """The corruption library's name and version, as reports give it.

    Raises:
        FileNotFoundError: It is not installed.
    """
    try:
        return f"{_LIBRARY} {metadata.version(_LIBRARY)}"
    except metadata.PackageNotFoundError as error:
        raise FileNotFoundError(
            f"The package {_LIBRARY}, which makes ImageNet-C, is not installed: {_REMEDY}"
        ) from error


def check_corruptions(corruptions: Sequence[str], severities: Sequence[int]) -> None:
    """Refuse what ImageNet-C has not.

    Raises:
        ValueError: Names it.
    """
    unknown = [name for name in corruptions if name not in CORRUPTIONS]
    if unknown or not corruptions or len(set(corruptions)) < len(corruptions):
        problem = f"there is no {', '.join(unknown)}; " if unknown else ""
        raise ValueError(f"corruptions={list(corruptions)}: {problem}write each once, out of {', '.join(CORRUPTIONS)}")
    if not severities or len(set(severities)) < len(severities) or not set(severities) <= set(SEVERITIES):
        raise ValueError(f"severities={list(severities)}: write some of 1, 2, 3, 4, 5, each once")


def corrupt(image: Image.Image, corruption: str, severity: int, name: str) -> Image.Image:
    """Corrupt an image; a function of the pixels and the arguments alone, in whatever process.

    Args:
        image: RGB, 224 px in ImageNet-C, 32 at least.
        corruption: One of :data:`CORRUPTIONS`.
        severity: 1 to 5.
        name: What the randomness depends on beside corruption and severity: ``WNID/IMAGE``.

    Returns:
        An image of the same size.

    Raises:
        FileNotFoundError: The library is not installed.
        ValueError: There is no such corruption or severity, or the image is smaller than the library takes.
    """
    check_corruptions([corruption], [severity])
    if min(image.size) < _LEAST:
        raise ValueError(f"{name} has {image.width} x {image.height} pixels; Corrupt takes {_LEAST} x {_LEAST} or more")
    library()
    digest = sha1(f"{corruption}/{severity}/{name}".encode(errors="surrogateescape")).digest()
    with seeded(int.from_bytes(digest[:8], "big")):
        options = {"seed": int(np.random.randint(2**31))} if corruption in _OWN_RANDOMNESS else {}
        pixels = import_module("imagecorruptions").corrupt(
            np.array(image), severity, corruption_name=corruption, **options
        )
    return Image.fromarray(pixels)


def encode(image: Image.Image) -> bytes:
    """An image as JPEG, with the settings of ImageNet-C's authors (hendrycks/robustness, make_imagenet_c.py)."""
    file = BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def image_name(path: str) -> str:
    """``WNID/IMAGE`` of a path: the same wherever the folder of the images is."""
    return "/".join(PurePath(path).parts[-2:])


@TRANSFORMS.register_module()
class Corrupt:
    """Corrupt the PIL image as ``results['corruption']`` and ``results['severity']`` say, and code it as a JPEG.

    After ``Resize(256, 'bilinear')`` and ``CenterCrop(224)`` this gives what ``tools/generate_imagenet_c.py`` writes.
    """

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace ``results['img']``."""
        name = image_name(results["img_path"])
        corrupted = corrupt(results["img"], results["corruption"], results["severity"], name)
        # ImageNet-C's images are JPEGs, whose losses count among the corruptions.
        results["img"] = open_rgb(encode(corrupted), results["img_path"])
        return results
