"""Open files and errors of the reader; test_shards.py compares the values that are read back."""

import pickle
from pathlib import Path

import pytest
import torch

from proteus.datasets.teacher_cache import (
    CacheError,
    CacheIndex,
    Float16,
    ShardBuilder,
    TeacherCache,
    write_index,
)
from proteus.datasets.teacher_cache import reader as reading


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Four images with two views each, in shards of one image."""
    index = CacheIndex({}, 4, 2, 3, (1, 2), 1, {"type": "float16"}, complete=True)
    for shard in index.shards():
        builder = ShardBuilder(index, shard, Float16())
        number = float(10 * shard.start + shard.view)
        builder.add(torch.full((1, 3), number), torch.full((1, 2, 3), -number), [0], [shard.start])
        builder.write(tmp_path)
    write_index(tmp_path, index)
    return tmp_path


def test_a_limited_number_of_files_stays_open(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_MAX_OPEN", 2)
    reader = TeacherCache(cache)
    for image, view in [(0, 0), (3, 1), (0, 0), (2, 0), (1, 1), (3, 1), (0, 1)]:
        found = reader.read(image, view)
        assert (found.cls == 10 * image + view).all()
        assert (found.patches == -(10 * image + view)).all()
        assert len(reader._open) <= 2


def test_unpickled_readers_open_files_again(cache: Path) -> None:
    reader = TeacherCache(cache)
    reader.read(0, 0)
    copy = pickle.loads(pickle.dumps(reader))
    assert not copy._open
    assert (copy.read(2, 1).cls == 21).all()


def test_missing_and_unfinished_caches(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"no teacher cache in .*nowhere"):
        _ = TeacherCache(tmp_path / "nowhere").index
    write_index(cache, CacheIndex({}, 4, 2, 3, (1, 2), 1, {"type": "float16"}, complete=False))
    with pytest.raises(CacheError, match="was not finished"):
        TeacherCache(cache).read(0, 0)


def test_missing_files_are_named_by_check_files(cache: Path) -> None:
    gone = sorted(cache.glob("*.safetensors"))[3]
    gone.unlink()
    with pytest.raises(CacheError, match=rf"1 files .* missing or damaged: {gone.name}"):
        TeacherCache(cache).check_files()
