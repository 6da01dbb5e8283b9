"""The index of a cache, and errors of damaged ones."""

import json
from pathlib import Path

import pytest

from proteus.datasets.teacher_cache import CacheError, CacheIndex, read_index, write_index


def index_of(**more: object) -> CacheIndex:
    values = dict(identity={"seed": 1}, images=5, views=2, cls_dim=4, grid=(2, 3), images_per_shard=3)
    return CacheIndex(**{**values, "patches": {"type": "float16"}, **more})


def test_index_is_read_back_unchanged(tmp_path: Path) -> None:
    for grid in ((0, 0), (2, 3)):  # (0, 0): without patches
        index = index_of(grid=grid, complete=True, patch_error=0.25, replaced=2, built_with={"torch": "2"})
        write_index(tmp_path, index)
        assert read_index(tmp_path) == index
    assert [path.name for path in tmp_path.iterdir()] == ["index.json"]
    assert read_index(tmp_path / "elsewhere") is None


def test_size_on_disk() -> None:
    # cls in float32, six patches of four numbers, and 12 bytes of checks and counts.
    assert index_of().bytes_per_view == 4 * 4 + 6 * 4 * 2 + 12
    small = index_of(patches={"type": "int8-pca", "components": 3})
    assert small.bytes_per_view == 4 * 4 + 6 * 3 + 12
    assert small.bytes == 5 * 2 * small.bytes_per_view
    assert (small.patch_shape, small.patch_dtype) == ((6, 3), "int8")


def test_find_and_shards_agree() -> None:
    index = index_of()
    assert [(shard.view, shard.start, shard.stop) for shard in index.shards()] == [
        *((0, 0, 3), (0, 3, 5)),
        *((1, 0, 3), (1, 3, 5)),
    ]
    for shard in index.shards():
        for image in range(shard.start, shard.stop):
            assert index.find(image, shard.view) == (shard.name, image - shard.start)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: {**content, "format": 99}, "has format 99"),
        (lambda content: {key: content[key] for key in content if key != "views"}, "damaged"),
        (lambda content: {**content, "another": 1}, "damaged"),
        (lambda content: [content], "damaged"),
        (lambda content: {**content, "images": -5}, "images=-5"),
        (lambda content: {**content, "images": True}, "images=True"),
        (lambda content: {**content, "views": 2.0}, r"views=2\.0"),
        (lambda content: {**content, "images_per_shard": 0}, "images_per_shard=0"),
        (lambda content: {**content, "images": 10**12, "images_per_shard": 1}, "1000000000000 images"),
        (lambda content: {**content, "grid": [10**8, 10**8]}, r"tokens in files of 3"),
        (lambda content: {**content, "grid": [4]}, r"grid=\(4,\)"),
        (lambda content: {**content, "grid": [0, 4]}, r"grid=\(0, 4\)"),
        (lambda content: {**content, "grid": [False, False]}, r"grid=\(False, False\)"),
        (lambda content: {**content, "grid": "ab"}, "grid="),
        (lambda content: {**content, "grid": None}, "damaged"),
        (lambda content: {**content, "complete": "yes"}, "complete='yes'"),
        (lambda content: {**content, "patch_error": float("nan")}, "patch_error=nan"),
        (lambda content: {**content, "replaced": -1}, "replaced=-1"),
        (lambda content: {**content, "identity": []}, "identity="),
        (lambda content: {**content, "patches": {}}, "'type'"),
        (lambda content: {**content, "patches": {"type": "int8-pca"}}, "patches.components=None"),
        (lambda content: {**content, "patches": {"type": "int8-pca", "components": 5}}, "patches.components=5"),
        (lambda content: {**content, "patches": {"type": "float16", "components": 2}}, "patches.components=2"),
    ],
)
def test_damaged_values_are_named(tmp_path: Path, change, words: str) -> None:
    write_index(tmp_path, index_of())
    path = tmp_path / "index.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(CacheError, match=words) as caught:
        read_index(tmp_path)
    assert str(path) in str(caught.value)
    assert "build the cache again" in str(caught.value)


@pytest.mark.parametrize("content", ["half", b"\xff\xfe", b"", "[" * 100_000], ids=["half", "bytes", "empty", "deep"])
def test_files_that_are_not_an_index_are_named(tmp_path: Path, content: str | bytes) -> None:
    write_index(tmp_path, index_of())
    path = tmp_path / "index.json"
    whole = path.read_bytes()[:40] if content == "half" else content
    path.write_bytes(whole.encode() if isinstance(whole, str) else whole)
    with pytest.raises(CacheError, match=r"index\.json is damaged"):
        read_index(tmp_path)
