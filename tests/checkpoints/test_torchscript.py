"""TorchScript archives: their tensors are read, their code is not run."""

from __future__ import annotations

import io
import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
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
        self.met: list[Storage] = []

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, Storage):
            if value in self.met:  # first the tensor, then its storage
                return ("storage", torch.FloatStorage, "0", "cpu", 1)
            self.met.append(value)
        return None


def described(folder: Path, root: Any, content: bytes = bytes(400)) -> Path:
    """An archive of this module tree and one storage."""
    description = io.BytesIO()
    Pickler(description, protocol=2).dump(root)
    with zipfile.ZipFile(folder / "changed.pt", "w") as new:
        new.writestr("m/data.pkl", description.getvalue())
        new.writestr("m/constants.pkl", b"")
        new.writestr("m/data/0", content)
    return folder / "changed.pt"


@pytest.mark.parametrize(
    ("size", "stride", "offset", "words"),
    [
        ((10**12,), (0,), 0, "1000000000000 values or more on a storage of"),
        ((1,), (1,), 10**9, "out of bounds for storage"),
    ],
)
def test_tensors_beyond_their_storage_are_refused(
    tmp_path: Path, size: tuple[int, ...], stride: tuple[int, ...], offset: int, words: str
) -> None:
    path = described(tmp_path, Storage(size, stride, offset))
    with pytest.raises(CheckpointError, match=rf"changed\.pt cannot be read .*{words}"):
        read_state_dict(path)


def test_a_shared_module_is_read_under_each_of_its_names(tmp_path: Path) -> None:
    layer = nn.Linear(2, 2)
    torch.jit.trace(nn.Sequential(layer, layer), torch.zeros(1, 2)).save(str(tmp_path / "shared.pt"))
    found = read_state_dict(tmp_path / "shared.pt")
    assert set(found) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert torch.equal(found["0.weight"], found["1.weight"])


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a module of an archive: its attributes by name."""
    kind = type("M", (), {"__module__": "__torch__"})
    monkeypatch.setitem(sys.modules, "__torch__", SimpleNamespace(M=kind))

    def make(**attributes: Any) -> Any:
        made = kind()
        vars(made).update(attributes)
        return made

    return make


AGAIN = r"changed\.pt cannot be read .*it names its parts over and over again"


def test_modules_that_share_others_are_read(tmp_path: Path, module: Any) -> None:
    leaf = module(x=Storage((2,), (1,)), y=5)
    assert list(read_state_dict(described(tmp_path, module(a=leaf, b=module(c=leaf))))) == ["a.x", "b.c.x"]


def test_a_chain_that_doubles_at_each_module_is_refused(tmp_path: Path, module: Any) -> None:
    tree = module(x=Storage((1,), (1,)))
    for _ in range(18):  # each further one would double the time
        tree = module(a=tree, b=tree)
    with pytest.raises(CheckpointError, match=AGAIN):
        read_state_dict(described(tmp_path, tree))


def test_one_storage_in_many_tensors_is_refused(tmp_path: Path, module: Any) -> None:
    tree = module(**{f"x{number}": Storage((2500,), (1,)) for number in range(9)})
    with pytest.raises(CheckpointError, match=AGAIN):
        read_state_dict(described(tmp_path, tree, bytes(10_000)))


def test_one_tensor_of_many_names_is_refused(tmp_path: Path, module: Any) -> None:
    tree = module(x=Storage((2500,), (1,)))
    for _ in range(3):
        tree = module(a=tree, b=tree)
    with pytest.raises(CheckpointError, match=AGAIN):
        read_state_dict(described(tmp_path, tree, bytes(10_000)))


def test_a_storage_is_read_once(tmp_path: Path, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = described(tmp_path, module(**{f"x{number}": Storage((1,), (1,)) for number in range(50)}))
    read: list[str] = []
    real = zipfile.ZipFile.read
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda self, name: (read.append(name), real(self, name))[1])
    assert len(read_state_dict(path)) == 50
    assert read == ["m/data/0"]


def test_a_dict_is_not_copied_again_and_again(archive: Path) -> None:
    path = rewritten(archive, "/data.pkl", pickle.dumps(Calls(OrderedDict, [("a", 1)]), protocol=2))
    with pytest.raises(CheckpointError, match=r"changed\.pt cannot be read"):
        read_state_dict(path)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_archive_is_refused(archive: Path, share: float) -> None:
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match=r"model\.pt cannot be read as weights"):
        read_state_dict(archive)
