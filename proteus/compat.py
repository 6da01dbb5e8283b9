"""Cures for faults of the packages underneath, each applied only where its fault is found.

Imported before anything else of the package. Importing it touches no network, no GPU and no file.
"""

from __future__ import annotations

import importlib
import sys

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


mend_torchvision()
