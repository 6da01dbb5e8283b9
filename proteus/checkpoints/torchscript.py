"""Read the tensors of a TorchScript archive without running its code.

OpenAI published CLIP in this form. An archive is a zip file: ``data.pkl`` describes the module tree, ``data/<number>``
are the bytes of its tensors, ``code/`` is the program. The program is ignored, and the pickle is read by an unpickler
that creates only tensors and inert objects.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a TorchScript archive's module tree by its name in ``state_dict``.

    Raises:
        pickle.UnpicklingError: The archive contains anything but tensors, modules and plain containers.
        ValueError: A tensor reaches beyond its storage.
    """
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
        with archive.open(name) as file:
            root = _Unpickler(file, archive, name.removesuffix(".pkl")).load()
    return dict(_tensors(root, ""))


class _Module:
    """A module of the archive: its attributes, without code."""

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name in _LISTS:
            return _same
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not allowed in a TorchScript archive of weights")

    def persistent_load(self, description: Any) -> Tensor:
        kind, dtype, number, _, _ = description
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise ValueError(f"{description!r} is not the storage of a tensor")
        content = bytearray(self._archive.read(f"{self._folder}/{number}"))
        return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _rebuild(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    count = 1
    for length in size:
        count *= length
    if count > storage.numel():  # with a stride of 0, one byte could claim any size
        raise ValueError(f"a tensor of {count} values on a storage of {storage.numel()}")
    return torch.as_strided(storage, size, stride, offset).clone()


def _same(values: Any) -> Any:
    return values


def _tensors(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in getattr(module, "attributes", {}).items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
