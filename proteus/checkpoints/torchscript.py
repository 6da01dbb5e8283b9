"""Read the tensors of a TorchScript archive without running its code.

OpenAI published CLIP in this form. An archive is a zip file: ``data.pkl`` describes the module tree, ``data/<number>``
are the bytes of its tensors, ``code/`` is the program. The program is ignored, and the pickle is read by an unpickler
that creates only tensors and inert objects. A pickle can name one part of itself any number of times, so what it makes
is counted: a small file must not fill the memory or run for hours.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
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
# Bytes of all tensors by name, for each byte of the archive: weights may have several names.
_MOST_COPIES = 4
# Characters in the names of all modules and tensors for each byte of their description; about 1 in real archives.
_LONGEST_NAMES = 100
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
        ValueError: A tensor reaches beyond its storage, or the archive names its parts over and over again.
    """
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
        most = _MOST_COPIES * sum(entry.file_size for entry in archive.infolist())
        with archive.open(name) as file:
            root = _Unpickler(file, archive, name.removesuffix(".pkl"), most).load()
        return _named(root, most, _LONGEST_NAMES * archive.getinfo(name).file_size)


class _Module:
    """A module of the archive: its attributes, without code."""

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str, most_bytes: int) -> None:
        super().__init__(file)
        self._archive, self._folder, self._bytes_left = archive, folder, most_bytes
        self._storages: dict[str, bytearray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return _no_hooks
        if module == "torch.jit._pickle" and name in _LISTS:
            return _same
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not allowed in a TorchScript archive of weights")

    def persistent_load(self, description: Any) -> Tensor:
        kind, dtype, number, _, _ = description
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(number, str):
            raise ValueError("a persistent id is not the storage of a tensor")
        if number not in self._storages:
            self._storages[number] = bytearray(self._archive.read(f"{self._folder}/{number}"))
        content = self._storages[number]
        return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)

    def _rebuild(self, storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
        count = 0 if 0 in size else 1
        for length in size:
            count *= abs(length)
            if count > storage.numel():  # with a stride of 0, one byte could claim any size
                raise ValueError(f"a tensor of {count} values or more on a storage of {storage.numel()}")
        self._bytes_left = _less(self._bytes_left, count * storage.element_size())
        return torch.as_strided(storage, size, stride, offset).clone()


def _no_hooks() -> OrderedDict[str, Any]:
    # The class itself would copy what it is called with, each time that a pickle calls it.
    return OrderedDict()


def _same(values: Any) -> Any:
    return values


def _less(left: int, used: int) -> int:
    if used > left:
        raise ValueError("it names its parts over and over again")
    return left - used


def _named(root: Any, most_bytes: int, most_characters: int) -> dict[str, Tensor]:
    """Name the tensors of a module tree; what several modules share has a name for each of them."""
    found: dict[str, Tensor] = {}

    def visit(module: Any, prefix: str) -> None:
        nonlocal most_bytes, most_characters
        for name, value in getattr(module, "attributes", {}).items():
            if not isinstance(name, str):
                raise ValueError("the name of an attribute is not text")
            path = f"{prefix}{name}"
            # Each level of a chain of modules that name the next one twice doubles the names.
            most_characters = _less(most_characters, len(path) + 1)
            if isinstance(value, Tensor):
                most_bytes = _less(most_bytes, value.nbytes)
                found[path] = value
            elif isinstance(value, _Module):
                visit(value, f"{path}.")

    visit(root, "")
    return found
