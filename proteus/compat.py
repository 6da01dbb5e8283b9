"""Cures for faults of the packages underneath, each applied only where its fault is found.

Imported before anything else of the package. Importing it touches no network, no GPU and no file.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any

import torch

# torch.library removes what a Library defined when the object dies, so it lives as long as the process.
_kept_alive: list[torch.library.Library] = []


def mend_torchvision() -> bool:
    """Make ``import torchvision`` work where PyPI's CUDA-linked wheel stands beside a CPU-only torch.

    Its compiled operators cannot be loaded there, and registering a meta kernel for the then unknown
    ``torchvision::nms`` raises at import, which takes timm and mmpretrain down with it. Declaring the two
    schemas is enough for transforms, models and datasets; the operators themselves stay unavailable.

    Returns:
        Whether the cure was applied.

    Raises:
        RuntimeError: ``import torchvision`` failed for any other reason.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    else:
        return False
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept_alive.append(library)
    importlib.import_module("torchvision")
    return True


def mend_posterize() -> bool:
    """Make timm's RandAugment work with Pillow 13, which refuses to posterize to 0 bits.

    Pillow before 13 gave a black image, and the strongest posterize of timm asks for that.

    Returns:
        Whether the cure was applied.
    """
    from PIL import Image, ImageOps
    from timm.data import auto_augment

    try:
        ImageOps.posterize(Image.new("RGB", (1, 1)), 0)
    except ValueError:
        posterize = auto_augment.posterize

        def posterize_or_black(img: Image.Image, bits_to_keep: int, **kwargs: Any) -> Image.Image:
            return posterize(img, bits_to_keep, **kwargs) if bits_to_keep > 0 else Image.new(img.mode, img.size)

        for name, operation in auto_augment.NAME_TO_OP.items():
            if operation is posterize:
                auto_augment.NAME_TO_OP[name] = posterize_or_black
        return True
    return False


def mend_log_encoding() -> bool:
    r"""Make MMEngine's log handlers write file names that are not UTF-8.

    Python keeps such bytes as lone surrogates, which no log file or terminal can encode: the line would be lost, with a
    traceback in its place. They are written as ``\udcff``, as Python itself writes them to stderr.

    Returns:
        Whether the cure was applied.
    """
    from mmengine.logging.logger import MMFormatter

    original = MMFormatter.format
    record = logging.LogRecord("proteus", logging.INFO, "", 0, "\udcff", None, None)
    if "\udcff" not in original(MMFormatter(color=False), record):
        return False

    def format_with_escapes(self: MMFormatter, record: logging.LogRecord) -> str:
        return original(self, record).encode("utf-8", "backslashreplace").decode("utf-8")

    MMFormatter.format = format_with_escapes
    return True


def register_configs() -> None:
    """Let MMEngine's ``_base_ = "proteus::proteus/vit-s_dinov2-b.py"`` name the configs of a checkout.

    MMEngine looks for ``proteus/.mim/configs``, and knows the packages that it looks in by a fixed table.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE.setdefault("proteus", "proteus")


mend_torchvision()
register_configs()
