import json
import logging
import os
import shutil
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

from proteus.datasets.shards.index import read_index, scan
from proteus.datasets.shards.index_file import INDEX, UNFINISHED, Index, load_index, write_index

FILES = {
    "x/000.jpg": b"first" * 200,
    "x/000.cls": b"7",
    "x/000.json": b"{}",
    "x/001.PNG": b"second",
    "x/001.mask.png": b"mask",
    "y/" + "long" * 60 + ".webp": b"third" * 300,
    "y/ö.jpeg": b"fourth",
    "y/.hidden.jpg": b"no sample",
    "y/empty.jpg": b"",
}
IMAGES = ["x/000.jpg", "x/001.PNG", "y/" + "long" * 60 + ".webp", "y/ö.jpeg", "y/empty.jpg"]


def write_tar(path: Path, files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        folder = tarfile.TarInfo("x")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, BytesIO(content))
    return path


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """Lines that are logged."""
    texts: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield texts
    logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROTEUS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_scanned_positions_of_images(tmp_path: Path, form: int) -> None:
    path = write_tar(tmp_path / "0.tar", FILES, form)
    shard, content = scan(path), path.read_bytes()
    assert [name for name, _, _ in shard.images] == IMAGES
    for name, offset, size in shard.images:
        assert content[offset : offset + size] == FILES[name]
    assert (shard.name, shard.bytes, shard.skipped, shard.cut) == ("0.tar", len(content), 2, False)


def test_truncated_shards_are_detected_and_read_up_to_the_cut(tmp_path: Path) -> None:
    content = write_tar(tmp_path / "0.tar", {f"{n}.jpg": bytes(700) for n in range(5)}).read_bytes()
    whole = scan(tmp_path / "0.tar")
    for size in [100, 512, 513, *range(1000, whole.images[-1][1] + 1024, 211), whole.images[2][1] + 1024]:
        cut = tmp_path / "cut.tar"
        cut.write_bytes(content[:size])
        found = scan(cut)
        assert found.cut, size
        readable = [image for image in found.images if image[1] + image[2] <= size]
        assert readable == [image for image in whole.images if image[1] + image[2] <= size]
        assert found.lost(size) == len(found.images) - len(readable) <= 1


def test_garbage_inside_a_shard_ends_the_scan(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", {f"{n}.jpg": bytes(700) for n in range(5)})
    content = bytearray(path.read_bytes())
    third = scan(path).images[2][1]
    content[third - 512 : third] = b"\xff" * 512
    path.write_bytes(content)
    assert [name for name, _, _ in scan(path).images] == ["0.jpg", "1.jpg"]
    assert scan(path).cut


def test_shards_of_other_tools_are_scanned_once(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    for number in (1, 0):
        write_tar(folder / f"{number}.tar", {f"{number}{n}.jpg": b"image" for n in range(3)})
    first = read_index(folder)
    assert [shard.name for shard in first.shards] == ["0.tar", "1.tar"]
    # An empty tar of the same size: the images found now come from the index.
    (folder / "0.tar").write_bytes(bytes(first.shards[0].bytes))
    assert read_index(folder) == first
    # One new shard, and one that was still being copied.
    grown = write_tar(folder / "1.tar", {f"1{n}.jpg": b"image" for n in range(30)})
    write_tar(folder / "2.tar", {"20.jpg": b"image"})
    assert [len(shard.images) for shard in read_index(folder).shards] == [3, 30, 1]
    assert load_index(folder / INDEX).shards[1].bytes == grown.stat().st_size


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "shards"
    write_tar(folder / "0.tar", {"0.jpg": b"image"})
    folder.chmod(0o555)
    assert len(read_index(folder).shards) == 1
    assert [path.suffix for path in cache.iterdir()] == [".json"]
    assert not (folder / INDEX).exists()


def test_truncated_shards_keep_their_entries_and_are_reported(tmp_path: Path, warnings: list[str]) -> None:
    folder = tmp_path / "shards"
    path = write_tar(folder / "0.tar", {f"{n}.jpg": bytes(700) for n in range(5)})
    whole = read_index(folder)
    path.write_bytes(path.read_bytes()[: whole.shards[0].images[2][1] + 100])
    assert len(read_index(folder).shards[0].images) == 5
    assert [text for text in warnings if f"{path} is truncated" in text and "3 of its 5 images are corrupt" in text]


def test_unusable_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; make it with proteus pack"):
        read_index(tmp_path / "nowhere")
    folder = tmp_path / "shards"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"no shard \(\*\.tar\)"):
        read_index(folder)
    (folder / "0.tar.gz").write_bytes(b"")
    with pytest.raises(ValueError, match="compressed"):
        read_index(folder)
    write_tar(folder / "0.tar", FILES)
    write_tar(folder / "1.tar", FILES)
    read_index(folder)
    shutil.move(folder / "1.tar", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"1 of 2 shards are not in .*\(1.tar\).*remove"):
        read_index(folder)
    (folder / UNFINISHED).touch()
    with pytest.raises(ValueError, match=r"not finished; run proteus pack again"):
        read_index(folder)


def test_index_is_read_back_unchanged(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", FILES)
    index = Index([scan(path)], {"quality": 95}, {"a.jpg": "why"})
    write_index(tmp_path / INDEX, index)
    assert load_index(tmp_path / INDEX) == index
    summary = json.loads((tmp_path / INDEX).read_text())
    assert (summary["images"], summary["shards"]) == (5, 1)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["0.tar", INDEX]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99}'])
def test_damaged_indices_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(ValueError, match=f"{INDEX}.*remove it"):
        load_index(tmp_path / INDEX)


def test_names_with_a_zero_byte_are_skipped(tmp_path: Path) -> None:
    """Names are kept with a zero byte between them."""
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("a.jpg", "b.jpg"):
            member = tarfile.TarInfo(name)
            member.pax_headers = {"path": f"x\0{name}"} if name == "b.jpg" else {}
            tar.addfile(member)
    assert [name for name, _, _ in scan(path).images] == ["a.jpg"]
    assert scan(path).skipped == 1
