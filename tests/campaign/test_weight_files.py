"""Some 300 bad weight files, each given to every reader: it is read, or refused in words that name it; no code runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from proteus.checkpoints import convert, export_backbone, inspect_file, read_state_dict
from proteus.checkpoints.training import check_resumable, load_checkpoint
from proteus.models import LinearClassifier, TimmBackbone, ViT
from proteus.models.backbones import locate_backbone
from proteus.structures import UserError
from proteus.utils.text import printable

SIZES: dict[str, Any] = {"img_size": 56, "embed_dim": 48, "depth": 2, "num_heads": 3}
Writer = Callable[[Path], None]


class Call:
    """Pickled as a call of ``function`` with ``arguments``; ``state`` goes to its ``__setstate__``."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


def state() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ViT("tiny", **SIZES).timm_state()


def saved(content: Any, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def holding(content: bytes) -> Writer:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def header(entries: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def files() -> Iterator[tuple[str, Writer]]:
    """The name and the writer of each file; the suffix of the name is the file's."""
    weights = state()
    good = {
        "safetensors": save(weights),
        "pth": saved({"state_dict": weights, "meta": {"iter": 3}}),
        "old.pth": saved(weights, zipped=False),
        "exported.safetensors": exported(weights),
    }
    draw = random.Random(0)
    for name, whole in good.items():
        for share in (0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.99, 0.9999):
            yield f"cut-{share}-{name}", holding(whole[: int(len(whole) * share)])
        for number in range(16):
            spoilt = bytearray(whole)
            # Half of them in the first bytes, where names and sizes are.
            position = draw.randrange(min(len(whole), 3000) if number % 2 else len(whole))
            spoilt[position] ^= 1 << draw.randrange(8)
            yield f"flipped-{position}-{name}", holding(bytes(spoilt))
        yield f"doubled-{name}", holding(whole + whole)
        yield f"trailing-{name}", holding(whole + b"\0" * 100)
        yield f"leading-{name}", holding(b"\0" * 8 + whole)
        yield f"reversed-{name}", holding(whole[::-1])
    for suffix in ("safetensors", "pth", "bin", "onnx", "pt"):
        for name, content in BYTES.items():
            yield f"{name}.{suffix}", holding(content)
    for name, content in HEADERS.items():
        yield f"{name}.safetensors", holding(content)
    for name, content in objects().items():
        for kind, zipped in (("", True), ("old-", False)):
            try:
                content_bytes = saved(content, zipped)
            except Exception:
                continue
            yield f"{kind}{name}.pth", holding(content_bytes)
    for name, tensors in tensor_files(weights).items():
        yield f"{name}.safetensors", holding(save(tensors))
        yield f"{name}.pth", holding(saved(tensors))
    yield from archives()
    yield from places()


def exported(weights: dict[str, torch.Tensor]) -> bytes:
    about = {"architecture": "vit_tiny_patch16_224", "arguments": {**SIZES, "patch_size": 14, "init_values": 1.0}}
    about |= {"mean": [0.5] * 3, "std": [0.5] * 3}
    return save(weights, {"format": "pt", "proteus": json.dumps(about)})


BYTES = {
    "empty": b"",
    "zeros": bytes(1000),
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
    "json": b'{"error": "not found"}',
    "text": b"hello\n" * 100,
    "binary": random.Random(1).randbytes(5000),
    "zip": b"PK\x03\x04" + bytes(100),
    "gzip": b"\x1f\x8b\x08" + bytes(100),
    "numpy": b"\x93NUMPY\x01\x00v\x00" + bytes(100),
    "pickle": pickle.dumps({"weight": [1, 2, 3]}),
    "pickle-4": pickle.dumps({"weight": [1, 2, 3]}, 4),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "escape": b"\x1b[2J\x1b]0;owned\x07",
}
HEADERS = {
    "header-huge": header({}, length=2**63),
    "header-negative": header({}, length=2**64 - 1),
    "header-beyond": header({"w": tensor([1], 0, 4)}, bytes(4), length=10**6),
    "header-short": header({"w": tensor([1], 0, 4)}, bytes(4), length=5),
    "header-zero": header({}, length=0),
    "header-text": header(b"not json at all"),
    "header-list": header([1, 2]),
    "header-null": header(None),
    "header-latin": header(b'{"\xff\xfe": 1}'),
    "header-deep": header(b"[" * 100_000),
    "header-empty": header({}),
    "overlap": header({"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, bytes(12)),
    "gap": header({"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, bytes(12)),
    "backwards": header({"a": tensor([1], 4, 0)}, bytes(4)),
    "outside": header({"a": tensor([1], 0, 10**12)}, bytes(4)),
    "wrong-size": header({"a": tensor([100], 0, 4)}, bytes(4)),
    "wrong-type": header({"a": tensor([1], 0, 4, "F33")}, bytes(4)),
    "huge-shape": header({"a": tensor([2**62, 2**62], 0, 4)}, bytes(4)),
    "negative-shape": header({"a": tensor([-1], 0, 4)}, bytes(4)),
    "float-shape": header({"a": {**tensor([1], 0, 4), "shape": [1.5]}}, bytes(4)),
    "no-shape": header({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)),
    "escape-name": header({"\x1b[2J": tensor([1], 0, 4)}, bytes(4)),
    "newline-name": header({"a\nerror: b": tensor([1], 0, 4)}, bytes(4)),
    "long-name": header({"n" * 5000: tensor([1], 0, 4)}, bytes(4)),
    "metadata-list": header({"__metadata__": [1], "a": tensor([1], 0, 4)}, bytes(4)),
    "metadata-nested": header({"__metadata__": {"proteus": {"a": 1}}, "a": tensor([1], 0, 4)}, bytes(4)),
    "metadata-text": header({"__metadata__": {"proteus": "no json"}, "a": tensor([1], 0, 4)}, bytes(4)),
}


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def objects() -> dict[str, Any]:
    one, weights = torch.ones(2), state()
    dtype = Call(np.dtype, "f8", False, True, state=(3, "<", None, None, None, -1, -1, 63))
    return {
        "code": {"state_dict": {"w": Call(os.system, "touch canary")}},
        "code-in-meta": {"state_dict": weights, "meta": Call(os.mkdir, "canary")},
        "code-eval": {"state_dict": weights, "meta": Call(eval, "open('canary', 'w')")},
        "code-key": {Call(os.mkdir, "canary"): 1},
        "code-open": Call(open, "canary", "w"),
        "code-getattr": {"w": one, "x": Call(getattr, os, "mkdir")},
        "code-numpy": {"w": one, "x": Call(np.fromfile, "x")},
        "config": {"state_dict": weights, "meta": {"iter": 1, "epoch": 1, "config": "open('canary', 'w')"},
                   "message_hub": {}},
        "pointers": {"w": one, "x": dtype},
        "object-array": {"w": np.array([one], dtype=object)},
        "object-scalar": {"w": np.array(["a"], dtype=object)},
        "array": {"w": np.ones(3)},
        "list": [one, one],
        "tuple": (one, {"w": one}),
        "tensor": one,
        "number": 3,
        "none": None,
        "text": "weights",
        "set": {1, 2},
        "empty-dict": {},
        "nested": {"state_dict": nested(500)},
        "nests": {"state_dict": {"state_dict": {"state_dict": {"w": one}}}},
        "state-list": {"state_dict": [one]},
        "state-none": {"state_dict": None, "model": None},
        "state-text": {"state_dict": "w"},
        "state-empty": {"state_dict": {}},
        "number-keys": {1: one, 2: one},
        "mixed-keys": {"w": one, 2: one, None: one, ("a",): one},
        "bytes-keys": {b"w": one},
        "meta-list": {"state_dict": weights, "meta": [1], "message_hub": 3, "optimizer": "x", "param_schedulers": None},
        "meta-iter": {"state_dict": weights, "meta": {"iter": "many", "epoch": -1}, "message_hub": {}},
        "ema-text": {"state_dict": weights, "ema_state_dict": "x"},
        "ema-code": {"ema_state_dict": {"w": Call(os.mkdir, "canary")}},
        "ordered": OrderedDict(weights),
        "sparse": {**weights, "norm.bias": torch.ones(48).to_sparse()},
        "csr": {**weights, "pos_embed": torch.eye(4).to_sparse_csr()},
        "quantised": {**weights, "norm.bias": torch.quantize_per_tensor(torch.ones(48), 0.1, 0, torch.qint8)},
        "nested-tensor": {**weights, "norm.bias": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])},
        "meta-device": {**weights, "norm.bias": torch.empty(48, device="meta")},
        "expanded": {**weights, "norm.bias": torch.zeros(1).expand(2**40)},
        "parameter": {**weights, "norm.bias": torch.nn.Parameter(torch.ones(48))},
        "two-models": {"a": weights, "b": weights},
        "two-prefixes": {f"{name}.{key}": value for name in "ab" for key, value in weights.items()},
    }  # fmt: skip


def tensor_files(weights: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    bias = "norm.bias"
    changed = {
        "nan": {bias: torch.full((48,), float("nan"))},
        "one-nan": {bias: torch.tensor([0.0] * 47 + [float("nan")])},
        "inf": {bias: torch.full((48,), float("inf"))},
        "half-inf": {bias: torch.full((48,), -float("inf"), dtype=torch.float16)},
        "bfloat-nan": {bias: torch.full((48,), float("nan"), dtype=torch.bfloat16)},
        "float8": {bias: torch.full((48,), float("nan")).to(torch.float8_e4m3fn)},
        "integers": {bias: torch.ones(48, dtype=torch.int64)},
        "int8": {"blocks.0.attn.qkv.weight": torch.ones(144, 48, dtype=torch.int8)},
        "flags": {bias: torch.ones(48, dtype=torch.bool)},
        "complex": {bias: torch.ones(48, dtype=torch.complex64)},
        "no-axes": {bias: torch.tensor(1.0)},
        "no-axes-token": {"cls_token": torch.tensor(1.0)},
        "no-axes-positions": {"pos_embed": torch.tensor(1.0)},
        "no-axes-patches": {"patch_embed.proj.weight": torch.tensor(1.0)},
        "no-axes-mask": {"mask_token": torch.tensor(1.0)},
        "no-axes-mlp": {"blocks.0.mlp.fc1.weight": torch.tensor(1.0), "blocks.0.mlp.fc2.weight": torch.tensor(1.0)},
        "no-axes-registers": {"reg_token": torch.tensor(1.0)},
        "no-axes-gamma": {"blocks.0.ls1.gamma": torch.tensor(1.0)},
        "no-values": {bias: torch.zeros(0)},
        "no-values-token": {"cls_token": torch.zeros(1, 1, 0)},
        "no-positions": {"pos_embed": torch.zeros(1, 0, 48)},
        "positions-off": {"pos_embed": torch.zeros(1, 7, 48)},
        "wide-positions": {"pos_embed": torch.zeros(1, 17, 49)},
        "many-axes": {bias: torch.zeros(1, 1, 48, 1)},
        "other-width": {"cls_token": torch.zeros(1, 1, 64)},
        "patch-0": {"patch_embed.proj.weight": torch.zeros(48, 3, 0, 0)},
        "left-over": {"unknown.weight": torch.zeros(3)},
        "no-axes-classifier": {"head.weight": torch.tensor(1.0), "head.bias": torch.tensor(1.0)},
        "short-bias": {"head.weight": torch.zeros(3, 48), "head.bias": torch.zeros(2)},
        "flat-classifier": {"head.weight": torch.zeros(3), "head.bias": torch.zeros(3)},
    }
    found = {name: {**weights, **values} for name, values in changed.items()}
    for key in ("cls_token", "pos_embed", "norm.weight", "blocks.1.mlp.fc2.bias", "patch_embed.proj.weight"):
        found[f"without-{key}"] = {name: value for name, value in weights.items() if name != key}
    found["only-one"] = {"cls_token": weights["cls_token"]}
    found["block-x"] = {key.replace("blocks.1", "blocks.x"): value for key, value in weights.items()}
    found["huggingface-part"] = {"embeddings.cls_token": torch.zeros(1, 1, 4),
                                 "encoder.layer.0.attention.attention.query.weight": torch.zeros(4, 4),
                                 "encoder.layer.0.attention.attention.key.weight": torch.zeros(3),
                                 "encoder.layer.0.attention.attention.value.weight": torch.tensor(1.0)}  # fmt: skip
    found["flat"] = {"_fsdp_wrapped_module._flat_param": torch.zeros(9)}
    return found


ABSOLUTE = "an absolute path"
"""Entry of an archive that gets the absolute path of a file next to the archive."""


def archives() -> Iterator[tuple[str, Writer]]:
    """Zip files: no checkpoint, a bomb, paths that lead out, a TorchScript of garbage."""

    def zipped(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Writer:
        def write(path: Path) -> None:
            with zipfile.ZipFile(path, "w", compression) as archive:
                for name, content in entries.items():
                    archive.writestr(str(path.parent / "canary") if name == ABSOLUTE else name, content)

        return write

    script = {"a/constants.pkl": b"", "a/version": b"3"}
    trap = pickle.dumps(Call(os.mkdir, "canary"))
    for name, entries in {
        "nothing": {},
        "other": {"readme.txt": b"hello"},
        "outside": {"../../canary": b"x", ABSOLUTE: b"x"},
        "no-data": {"a/version": b"3"},
        "garbage-data": {"a/data.pkl": b"garbage", "a/version": b"3", "a/byteorder": b"little"},
        "trap": {"a/data.pkl": trap, "a/version": b"3", "a/byteorder": b"little"},
        "script-empty": script,
        "script-garbage": {**script, "a/data.pkl": b"garbage"},
        "script-trap": {**script, "a/data.pkl": trap},
        "script-code": {**script, "a/data.pkl": pickle.dumps({}), "a/code/x.py": b"open('canary', 'w')"},
        "script-missing": {**script, "a/data.pkl": b"\x80\x02X\x01\x00\x00\x00aQ."},
        "script-two": {**script, "a/data.pkl": b"", "b/data.pkl": b""},
    }.items():
        yield f"zip-{name}.pth", zipped(entries)
    yield "zip-bomb.pth", zipped({"a/data.pkl": bytes(2**26), "a/version": b"3"}, zipfile.ZIP_DEFLATED)


def places() -> Iterator[tuple[str, Writer]]:
    """Yield folders, links and pipes in place of files, and files with odd names."""

    def circle(path: Path) -> None:
        other = path.with_name(f"{path.name}.back")
        path.symlink_to(other)
        other.symlink_to(path)

    for suffix in ("safetensors", "pth", "onnx"):
        yield f"folder.{suffix}", lambda path: path.mkdir()
        yield f"circle.{suffix}", circle
        yield f"dangling.{suffix}", lambda path: path.symlink_to("nowhere")
        yield f"pipe.{suffix}", lambda path: os.mkfifo(path)
        yield f"missing.{suffix}", lambda path: None
        yield os.fsdecode(b"caf\xe9.") + suffix, holding(b"garbage")
        yield f"new\nline.{suffix}", holding(b"garbage")
        yield f"{'n' * 300}.{suffix}", lambda path: None


def readers(folder: Path) -> dict[str, Callable[[str], Any]]:
    def resume(path: str) -> None:
        check_resumable(load_checkpoint(path), path)

    vit, cnn = ViT("tiny", mask_token=True, **SIZES), TimmBackbone("test_vit", img_size=160)
    classifier = LinearClassifier(48, 3, layers=1, avgpool=False)
    return {
        "read_state_dict": read_state_dict,
        "locate_backbone": lambda path: locate_backbone(path, img_size=56),
        "ViT": vit.load,
        "TimmBackbone": cnn.load,
        "LinearClassifier": classifier.load,
        "load_checkpoint": load_checkpoint,
        "resume": resume,
        "inspect": inspect_file,
        "convert": lambda path: convert(path, folder / "out.safetensors", "hf"),
    }


def outcome(read: Callable[[str], Any], path: Path) -> str:
    """``read`` or ``refused``; anything else fails the test."""
    try:
        read(str(path))
    except UserError as error:
        message = str(error)
        assert printable(path.name)[:100] in message, message
        assert all(line.isprintable() for line in message.splitlines()), message
        assert len(message) < 3000, message
        return "refused"
    return "read"


@pytest.mark.filterwarnings("ignore")
def test_bad_files_are_read_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    working, folder = tmp_path / "cwd", tmp_path / "files"
    working.mkdir()
    folder.mkdir()
    monkeypatch.chdir(working)
    counts = {"files": 0, "read": 0, "refused": 0}
    failures: list[str] = []
    everyone = readers(tmp_path)
    for name, write in files():
        path = folder / name
        write(path)
        counts["files"] += 1
        for reader, read in everyone.items():
            try:
                counts[outcome(read, path)] += 1
            except BaseException as error:
                failures.append(f"{name} -> {reader}: {type(error).__name__}: {str(error)[:300]}")
        assert not list(working.iterdir()), f"{name} ran code"
        assert not (folder / "canary").exists(), f"{name} wrote a file"
    print(counts)
    assert not failures, f"{len(failures)} of {counts}:\n" + "\n".join(failures[:60])
    assert counts["files"] >= 300
    assert counts["refused"] > 5 * counts["files"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "secret.pth"
    path.write_bytes(b"")
    path.chmod(0)
    for read in readers(tmp_path).values():
        assert outcome(read, path) == "refused"


@pytest.mark.parametrize("value", [None, 3, 2.5, True, [], ["a.pth"], {}, b"a.pth", ""])
def test_what_is_not_a_path_is_refused(value: Any) -> None:
    for read in (read_state_dict, load_checkpoint, inspect_file):
        with pytest.raises(UserError):
            read(value)


@pytest.mark.parametrize("name", ["nan", "one-nan", "inf", "half-inf", "bfloat-nan", "float8"])
def test_values_that_are_not_finite_are_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.safetensors"
    save_file(tensor_files(state())[name], path)
    for reader, read in readers(tmp_path).items():
        if reader not in ("LinearClassifier", "TimmBackbone"):
            with pytest.raises(UserError, match=rf"{name}\.safetensors: norm\.bias holds .* NaN or infinite"):
                read(str(path))


def test_the_mask_of_a_text_tower_may_be_infinite(tmp_path: Path) -> None:
    mask = torch.full((3, 3), -float("inf")).triu(1)
    save_file({"w": torch.ones(2), "transformer.attn_mask": mask}, tmp_path / "clip.safetensors")
    assert read_state_dict(tmp_path / "clip.safetensors").keys() == {"w", "transformer.attn_mask"}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_any_header_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    integers = st.integers(-(2**64), 2**64) | st.integers(0, 16)
    value = st.none() | st.booleans() | integers | st.text(max_size=8) | st.lists(integers, max_size=3)
    entry = st.fixed_dictionaries(
        {},
        optional={
            "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL", "U8", "F8_E4M3", "X"]) | value,
            "shape": st.lists(integers, max_size=4) | value,
            "data_offsets": st.lists(st.integers(0, 32), min_size=2, max_size=2) | value,
        },
    )
    names = st.sampled_from(["cls_token", "pos_embed", "w", "__metadata__", ""]) | st.text(max_size=8)
    entries = data.draw(st.dictionaries(names, entry | value, max_size=4))
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.write_bytes(header(entries, bytes(data.draw(st.integers(0, 32))), data.draw(st.none() | st.integers(0, 200))))
    for read in (read_state_dict, inspect_file, load_checkpoint):
        outcome(read, path)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
def test_any_damage_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], zipped: bool
) -> None:
    content = bytearray(saved({"state_dict": {"w": torch.ones(3)}, "meta": {"iter": 1}}, zipped))
    for position, value in changes:
        content[position % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "fuzzed.pth"
    path.write_bytes(bytes(content))
    for read in (read_state_dict, inspect_file, load_checkpoint):
        outcome(read, path)


def test_an_export_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    export_backbone(state(), tmp_path / "student.safetensors", {})
    before = (tmp_path / "student.safetensors").read_bytes()
    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        export_backbone({"w": torch.ones(1)}, tmp_path / "student.safetensors", {})
    assert (tmp_path / "student.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["student.safetensors"]
