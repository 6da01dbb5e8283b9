"""Write and read shards, and report damage."""

from __future__ import annotations

import errno
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from proteus.datasets.teacher_cache import (
    CacheError,
    CacheIndex,
    Float16,
    ShardBuilder,
    TeacherCache,
    pixels_of,
    read_index,
    write_index,
)
from proteus.datasets.teacher_cache.shards import checksum, errors_of
from proteus.structures import FullDiskError


def index_of(**more: object) -> CacheIndex:
    values = dict(identity={}, images=5, views=2, cls_dim=4, grid=(2, 3), images_per_shard=3, complete=True)
    return CacheIndex(**{**values, "patches": {"type": "float16"}, **more})


def tokens(image: int, view: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(10 * image + view)
    return torch.randn(4, generator=generator), torch.randn(6, 4, generator=generator)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    index = index_of()
    for shard in index.shards():
        builder = ShardBuilder(index, shard, Float16())
        for image in range(shard.start, shard.stop):
            cls, patches = tokens(image, shard.view)
            builder.add(cls[None], patches[None], [image % 2], [1000 + image])
        assert builder.full
        builder.write(tmp_path)
    write_index(tmp_path, index)
    return tmp_path


def test_all_views_are_read_back(cache: Path) -> None:
    reader = TeacherCache(cache)
    reader.check_files()
    for image in (4, 0, 2, 3, 1):
        for view in (1, 0):
            found, (cls, patches) = reader.read(image, view), tokens(image, view)
            assert found.cls.dtype == np.float32
            assert torch.equal(torch.from_numpy(found.cls), cls)
            assert torch.equal(torch.from_numpy(found.patches), patches.half())
            assert (found.corrupt, found.pixels) == (image % 2, 1000 + image)


def test_files_and_bytes(cache: Path) -> None:
    index = read_index(cache)
    assert index == index_of()
    assert [shard.name for shard in index.shards()] == sorted(path.name for path in cache.glob("view*"))
    assert [len(shard) for shard in index.shards()] == [3, 2, 3, 2]
    assert index.bytes_per_view == 4 * 4 + 6 * 4 * 2 + 12
    sizes = sum(path.stat().st_size for path in cache.glob("view*"))
    assert index.bytes < sizes < index.bytes + 4 * 1024


def test_error_of_the_decoded_tokens(cache: Path) -> None:
    squared, variance, replaced = errors_of(cache / "view-001-00000.safetensors")
    patches = torch.cat([tokens(image, 1)[1] for image in range(3)]).double()
    assert squared == pytest.approx(float((patches.half().double() - patches).square().sum()), rel=1e-6)
    assert variance == pytest.approx(float((patches - patches.mean(0)).square().sum()))
    assert replaced == 1


def test_pickled_readers_have_no_open_files(cache: Path) -> None:
    reader = TeacherCache(cache)
    reader.read(0, 0)
    again = pickle.loads(pickle.dumps(reader))
    assert again.read(4, 1).pixels == 1004


def test_truncated_missing_and_changed_files_are_refused(cache: Path) -> None:
    path = cache / "view-001-00001.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-3], whole[:5], b""):
        path.write_bytes(damaged)
        with pytest.raises(CacheError, match=r"1 files .* missing or damaged: view-001-00001\.safetensors"):
            TeacherCache(cache).check_files()
        with pytest.raises(CacheError, match=r"view-001-00001\.safetensors is missing or damaged"):
            TeacherCache(cache).read(4, 1)
    changed = bytearray(whole)
    changed[whole.index(tokens(4, 1)[0].numpy().tobytes())] ^= 1
    path.write_bytes(changed)
    assert TeacherCache(cache).read(3, 1).pixels == 1003
    with pytest.raises(CacheError, match=r"view-001-00001\.safetensors is damaged \(row 1\): remove it"):
        TeacherCache(cache).read(4, 1)
    path.unlink()
    with pytest.raises(CacheError, match="missing or damaged"):
        TeacherCache(cache).check_files()


def test_missing_unfinished_and_other_indices(cache: Path) -> None:
    with pytest.raises(CacheError, match="no teacher cache in"):
        TeacherCache(cache / "elsewhere").index.images  # noqa: B018
    write_index(cache, index_of(complete=False))
    with pytest.raises(CacheError, match="was not finished"):
        TeacherCache(cache).index.images  # noqa: B018
    content = json.loads((cache / "index.json").read_text())
    (cache / "index.json").write_text(json.dumps({**content, "format": 9}))
    with pytest.raises(CacheError, match="has format 9"):
        read_index(cache)
    for damaged in ("{", "[]", '{"format": 1, "images": 3}'):
        (cache / "index.json").write_text(damaged)
        with pytest.raises(CacheError, match=r"index\.json is damaged"):
            read_index(cache)


def test_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    index = index_of()
    shard = next(index.shards())
    builder = ShardBuilder(index, shard, Float16())
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FullDiskError, match=rf"{shard.name}: no space left on the disk"):
        builder.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def rewritten(path: Path, change: Callable[[dict[str, np.ndarray]], None], about: dict[str, Any] | None = None) -> None:
    """Change columns of a shard and update its checksums, as a faulty tool would."""
    content = load_file(path)
    change(content)
    tokens = zip(content["cls"], content["patches"], strict=True)
    content["checksum"] = np.array([checksum(*row) for row in tokens], np.uint32)
    save_file(content, path, {"about": json.dumps(about or {"squared_error": 0.0, "variance": 1.0})})


@pytest.mark.parametrize("column", ["cls", "patches"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_tokens_that_are_not_finite_are_refused(cache: Path, column: str, value: float) -> None:
    path = cache / "view-000-00000.safetensors"
    rewritten(path, lambda content: content[column][1].fill(value))
    with pytest.raises(CacheError, match=r"view-000-00000\.safetensors has NaN or infinite tokens \(row 1\)"):
        TeacherCache(cache).read(1, 0)
    assert TeacherCache(cache).read(0, 0).corrupt == 0


@pytest.mark.parametrize("column", ["cls", "patches", "corrupt", "pixels"])
def test_columns_with_another_dtype_or_shape_are_refused(cache: Path, column: str) -> None:
    path = cache / "view-000-00000.safetensors"
    rewritten(path, lambda content: content.update({column: content[column].astype(np.float64)}))
    with pytest.raises(CacheError, match=r"missing or damaged: view-000-00000\.safetensors"):
        TeacherCache(cache).check_files()


@pytest.mark.parametrize("about", [{}, {"squared_error": "x", "variance": 1}, {"squared_error": float("nan")}, [1]])
def test_shards_without_errors_are_named(cache: Path, about: Any) -> None:
    path = cache / "view-000-00000.safetensors"
    rewritten(path, lambda content: None, about or {"other": 1})
    with pytest.raises(CacheError, match=r"view-000-00000\.safetensors is damaged"):
        errors_of(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_tokens_that_cannot_be_stored(value: float) -> None:
    index = index_of()
    builder = ShardBuilder(index, list(index.shards())[1], Float16())
    patches = torch.zeros(2, 6, 4)
    patches[1, 2, 3] = value
    with pytest.raises(CacheError, match=r"images 3 to 4, view 0: .* not finite, or exceed float16"):
        builder.add(torch.zeros(2, 4), patches, [0, 0], [0, 0])


def test_checksum_of_pixels_and_device_operations() -> None:
    image = torch.arange(12, dtype=torch.uint8).view(3, 2, 2)
    plain = pixels_of({"inputs": image})
    assert plain == pixels_of({"inputs": image.clone(), "mask": torch.ones(4)})
    assert plain != pixels_of({"inputs": image + 1})
    assert plain != pixels_of({"inputs": image, "erase": (0, 0, 1, 1, 5)})
