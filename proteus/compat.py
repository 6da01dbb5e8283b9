"""Patches of other packages, and the only accesses to their private names.

Each function names the version that needs it and the reason; ``tests/test_compat.py`` fails when a patch is no longer
needed or no longer fits. ``import proteus`` imports this module first, so that it must stay light: it imports torch and
nothing else that is slow, and touches no network and no GPU.
"""

from __future__ import annotations

import importlib.util
import logging
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import torch

# torch.library removes the definitions of a Library when the object is deleted.
_libraries: list[torch.library.Library] = []


def fix_torchvision() -> bool:
    """Make ``import torchvision`` work if its operators cannot be loaded: PyPI's CUDA wheel with a CPU-only torch.

    torchvision 0.28 registers a fake kernel for ``torchvision::nms`` whether or not it could load the library that
    defines the operator, so that the import fails, and with it the import of timm and mmpretrain. Declaring the two
    schemas is enough for transforms, models and data sets; the operators themselves stay unavailable.

    Returns:
        Whether the schemas were declared.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or hasattr(torch.ops.torchvision, "nms"):
        return False
    folder = Path(spec.origin).parent
    try:
        for path in (folder / f"_C{suffix}" for suffix in EXTENSION_SUFFIXES):
            if path.is_file():
                torch.ops.load_library(path)
                return False
    except OSError:  # linked against a CUDA that is not there
        pass
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)
    return True


def fix_posterize() -> bool:
    """Make timm's RandAugment work with Pillow 13, which refuses to posterize to 0 bits.

    Pillow before 13 gave a black image, and the strongest posterize of timm asks for that.

    Returns:
        Whether the patch was applied.
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


def fix_log_encoding() -> bool:
    r"""Make MMEngine's log handlers write file names that are not UTF-8.

    Python keeps such bytes as lone surrogates, which no log file or terminal can encode: the line would be lost, with a
    traceback in its place. They are written as ``\udcff``, as Python itself writes them to stderr.

    Returns:
        Whether the patch was applied.
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


fix_torchvision()
register_configs()
