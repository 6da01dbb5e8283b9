"""TorchScript archives: their tensors are read, their code is not run."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from proteus.checkpoints import CheckpointError, read_state_dict


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2)
        self.scale = nn.Parameter(torch.randn(3, 4).half())
        self.register_buffer("counts", torch.arange(5))
        self.register_buffer("transposed", torch.arange(6.0).view(2, 3).t())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.sum() + self.counts.sum() + self.transposed.sum()


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual = Inner()
        self.logit_scale = nn.Parameter(torch.ones([]) * 2.5)
        self.tied = self.visual.scale

    def forward(self, x: Tensor) -> Tensor:
        return self.visual(x) * self.logit_scale


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    torch.jit.trace(Outer(), torch.zeros(2)).save(str(tmp_path / "model.pt"))
    return tmp_path / "model.pt"


def test_every_tensor_is_read_as_torch_would(archive: Path) -> None:
    found, expected = read_state_dict(archive), torch.jit.load(str(archive)).state_dict()
    assert set(found) >= set(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], value), key
    assert found["visual.transposed"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]


def rewritten(archive: Path, name: str, content: bytes) -> Path:
    """The archive with one member replaced."""
    changed = archive.with_name("changed.pt")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(changed, "w") as new:
        for entry in old.namelist():
            new.writestr(entry, content if entry.endswith(name) else old.read(entry))
    return changed


class Calls:
    """Pickled, it asks to call something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def test_code_in_its_pickle_is_not_run(archive: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    evil = pickle.dumps({"weight": torch.ones(1).tolist(), "x": Calls(os.mkdir, str(trace))}, protocol=2)
    path = rewritten(archive, "/data.pkl", evil)
    with pytest.raises(CheckpointError, match=r"changed\.pt .*could run code.*mkdir.*safetensors"):
        read_state_dict(path)
    assert not trace.exists()
    pickle.loads(evil)  # it does what the test says
    assert trace.exists()


@pytest.mark.parametrize("function", [eval, getattr, __import__, torch.load, OrderedDict.fromkeys])
def test_nothing_but_tensors_can_be_asked_for(archive: Path, function: Any) -> None:
    path = rewritten(archive, "/data.pkl", pickle.dumps(Calls(function, "1"), protocol=2))
    with pytest.raises(CheckpointError, match="could run code"):
        read_state_dict(path)


def test_program_is_ignored(archive: Path) -> None:
    path = rewritten(archive, ".py", b"raise SystemExit")
    with pytest.raises(RuntimeError):
        torch.jit.load(str(path))
    assert read_state_dict(path)["logit_scale"].item() == 2.5


class Storage:
    """A tensor of any size on a storage of a few bytes."""

    def __init__(self, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> None:
        self.size, self.stride, self.offset = size, stride, offset

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, (self, self.offset, self.size, self.stride, False, OrderedDict())


class Pickler(pickle.Pickler):
    """Writes what stands for a storage as TorchScript does."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.depth = 0

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, Storage):
            self.depth += 1
            if self.depth == 2:  # first the tensor, then its storage
                return ("storage", torch.FloatStorage, "0", "cpu", 1)
        return None


@pytest.mark.parametrize(
    ("size", "stride", "offset", "words"),
    [((10**12,), (0,), 0, "1000000000000 values on a storage of"), ((1,), (1,), 10**9, "out of bounds for storage")],
)
def test_tensors_beyond_their_storage_are_refused(
    archive: Path, tmp_path: Path, size: tuple[int, ...], stride: tuple[int, ...], offset: int, words: str
) -> None:
    with (tmp_path / "data.pkl").open("wb") as file:
        Pickler(file, protocol=2).dump(Storage(size, stride, offset))
    path = rewritten(archive, "/data.pkl", (tmp_path / "data.pkl").read_bytes())
    with pytest.raises(CheckpointError, match=rf"changed\.pt cannot be read .*{words}"):
        read_state_dict(path)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_archive_is_refused(archive: Path, share: float) -> None:
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match=r"model\.pt cannot be read as weights"):
        read_state_dict(archive)
