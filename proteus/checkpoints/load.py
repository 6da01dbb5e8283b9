"""Load the tensors of a weight file without running code from it."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from proteus.checkpoints.description import read_description
from proteus.checkpoints.detect_arch import describe
from proteus.checkpoints.errors import CheckpointError, DamagedFileError, first_sentence
from proteus.checkpoints.keys import Weights
from proteus.checkpoints.parts import check_values, take_part
from proteus.checkpoints.paths import check_file, locate, split_part
from proteus.checkpoints.safe_globals import HARMLESS
from proteus.checkpoints.torchscript import is_torchscript, read_torchscript
from proteus.utils.text import printable


def read_state_dict(path: str | Path) -> Weights:
    """Read the tensors of a weight file.

    Files are ``.safetensors``, ``.pth``/``.pt``/``.bin``, TorchScript archives as OpenAI publishes them, or the
    ``.onnx`` file of the packaged ViT. No code in them is run: pickles are opened with ``weights_only=True``, and only
    the tensors of a TorchScript archive are read.

    Weights nested under ``state_dict`` or ``model`` are unwrapped. If a checkpoint holds several models, the trained
    student is read, as in the paper; ``file.pth#ema`` selects the average of its weights, ``file.pth#teacher`` the
    teacher, ``file.pth#NAME`` any other part. :mod:`proteus.checkpoints.parts` has the rule.

    Raises:
        CheckpointError: The file is missing, is not a weight file, would run code when opened, lacks the part, holds
            several models and no part is named, or holds a tensor that is not plain or not finite.
    """
    file = locate(path)
    state = take_part(open_weights(file), split_part(path)[1], file)
    check_values(state, file)
    return state


def open_weights(path: Path, device: str = "cpu") -> Any:
    """Read everything in a weight file, as data.

    Args:
        path: The file.
        device: ``cpu``, or ``meta`` for names and shapes only, if the format allows it.

    Raises:
        CheckpointError: The file is missing, is not a weight file, or would run code when opened.
    """
    check_file(path)
    if path.suffix.lower() == ".onnx":
        from proteus.checkpoints.packaged_onnx import read_packaged_vit

        try:
            return read_packaged_vit(path)
        except Exception as error:  # a damaged file, or the package onnx is missing
            raise CheckpointError(str(error)) from error
    return _open(path, device)


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load ``state`` into ``model`` if every name and shape fits; otherwise change nothing.

    Raises:
        CheckpointError: See :func:`check_fit`.
    """
    own = model.state_dict()
    check_fit(own, state, source)
    if not any(tensor.is_meta for tensor in own.values()):  # built to check a config, without memory
        model.load_state_dict(dict(state))


def check_fit(own: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str | Path) -> None:
    """Compare a model's state dict with a file's.

    Raises:
        CheckpointError: Names are missing or left over, or shapes or types differ; the message lists them and describes
            both models.
    """
    shapes = [
        f"{key}: file {tuple(given[key].shape)}, model {tuple(own[key].shape)}"
        for key in own
        if key in given and given[key].shape != own[key].shape
    ]
    types = [
        f"{key}: file {given[key].dtype}, model {own[key].dtype}".replace("torch.", "")
        for key in own
        if key in given and own[key].is_floating_point() and not given[key].is_floating_point()
    ]
    missing = [key for key in own if key not in given]
    left_over = [key for key in given if key not in own]
    if not (shapes or types or missing or left_over):
        return
    parts = [f"{source} does not fit the model it is meant for ({describe(own)}; the file: {describe(given)})"]
    for title, rows in (
        ("other shape", shapes),
        ("other type", types),
        ("missing in the file", missing),
        ("not in the model", left_over),
    ):
        if rows:
            parts.append(f"{title} ({len(rows)}): {', '.join(rows[:2])}{' ...' if len(rows) > 2 else ''}")
    parts.append("use that architecture's weights, or set arch, patch_size, reg_tokens or init_values to the file's")
    raise CheckpointError("; ".join(parts))


_LARGEST_RATIO, _SMALLEST_BOMB = 50, 1 << 24


def _open(path: Path, device: str) -> Any:
    try:
        if path.suffix.lower() == ".safetensors":
            read_description(path)  # refuse the whole file if its description is invalid
            return load_file(path)
        _refuse_bombs(path)
        if is_torchscript(path):
            return read_torchscript(path)
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(path, map_location=device, weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked is None:
            with path.open("rb") as file:
                start = file.read(16)
            raise DamagedFileError(
                f"{path} cannot be read as weights, and was not opened: it is damaged, a pickle that torch.save did "
                f"not write, or not a weight file (it begins with {start!r})"
            ) from error
        raise CheckpointError(
            f"{path} is a pickle that holds more than tensors, and opening it could run code, so it was not opened "
            f"(it asks for {printable(asked[1], 200)}). If you trust its author, re-save only the weights where it was "
            "made: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        ) from error
    except Exception as error:  # libraries raise many types for a damaged file
        raise DamagedFileError(f"{path} cannot be read as weights ({first_sentence(error)})") from error


def _refuse_bombs(path: Path) -> None:
    """Refuse an archive that unpacks to far more than its size; torch.save does not compress."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    size = sum(entry.file_size for entry in entries)
    if size > _SMALLEST_BOMB and size > _LARGEST_RATIO * path.stat().st_size:
        raise CheckpointError(f"{path} cannot be read as weights: its {path.stat().st_size:,} bytes unpack to {size:,}")
