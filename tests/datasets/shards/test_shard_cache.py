import os
import sys
import threading
import traceback
from pathlib import Path

import pytest

from proteus.datasets.shards.remote_folder import RemoteFolder, Stat
from proteus.datasets.shards.shard_cache import ShardCache
from proteus.structures import DataError

SIZE = 1000


class Folder(RemoteFolder):
    """A remote folder that counts downloads, and calls a function during each."""

    downloads: list[str]

    def download(self, name: str, path: Path) -> None:
        self.downloads.append(name)
        self.during(name)
        super().download(name, path)

    def during(self, name: str) -> None: ...


@pytest.fixture
def remote(tmp_path: Path, cache: Path) -> Folder:
    origin = tmp_path / "origin"
    origin.mkdir()
    for number in range(8):
        (origin / f"{number}.tar").write_bytes(bytes([number]) * SIZE)
    folder = Folder(f"file://{origin}")
    folder.downloads = []
    return folder


def copies(folder: Path) -> list[str]:
    return sorted(path.name.rpartition("-")[2] for path in folder.iterdir() if not path.name.startswith("."))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix == ".tar")


def test_the_bound_is_kept_and_the_least_recently_used_copies_are_removed(remote: Folder, cache: Path) -> None:
    held = ShardCache(remote, cache, 3 * SIZE + 1)
    for at, name in enumerate(["0.tar", "1.tar", "2.tar"]):
        os.utime(held.path(name), (at, at))
    held._used.clear()
    held.path("0.tar")  # used again
    held.path("3.tar")
    assert copies(cache) == ["0.tar", "2.tar", "3.tar"]
    for number in range(8):
        path = held.path(f"{number}.tar")
        assert path.read_bytes() == bytes([number]) * SIZE
        assert size(cache) <= 3 * SIZE
    assert len([path for path in cache.iterdir() if path.name.startswith(".lock")]) <= 256


def test_two_processes_share_the_copies_and_one_downloads(remote: Folder, cache: Path) -> None:
    """Two caches have separate memory, as two processes have; the lock is the file system's."""
    first, second = ShardCache(remote, cache, 4 * SIZE), ShardCache(remote, cache, 4 * SIZE)
    started, refused, found = threading.Event(), [], []
    waiter = threading.Thread(target=lambda: found.append(second.path("0.tar")))

    def during(name: str) -> None:
        if not started.is_set():
            started.set()
            refused.append(second.path(name, wait=False))
            waiter.start()

    remote.during = during  # type: ignore[method-assign]
    path = first.path("0.tar")
    waiter.join(10)
    assert refused == [None]
    assert found == [path]
    assert remote.downloads == ["0.tar"]


def test_running_downloads_count_at_their_full_size_and_abandoned_ones_are_removed(remote: Folder, cache: Path) -> None:
    first, second = ShardCache(remote, cache, 2 * SIZE), ShardCache(remote, cache, 2 * SIZE)
    first.path("0.tar")
    abandoned = cache / f".{first._source}-00000000-{SIZE}-7.tar.tmp"
    abandoned.write_bytes(b"killed")
    seen: list[list[str]] = []

    def during(name: str) -> None:
        if name == "1.tar":
            second.path("2.tar")
            seen.append(copies(cache))

    remote.during = during  # type: ignore[method-assign]
    first.path("1.tar")
    assert seen == [["2.tar"]]  # 0.tar made room: 1.tar is empty so far, and will have its full size
    assert copies(cache) == ["1.tar", "2.tar"]
    assert not abandoned.exists()


def test_the_bound_holds_while_several_processes_download(remote: Folder, cache: Path) -> None:
    """With room for one file, a second download waits for the first; one that must not wait is left."""
    first, second = ShardCache(remote, cache, SIZE), ShardCache(remote, cache, SIZE)
    found: list[Path | None] = []
    waiter = threading.Thread(target=lambda: found.append(second.path("1.tar")))

    def during(name: str) -> None:
        if name == "0.tar":
            assert second.path("2.tar", wait=False) is None
            waiter.start()
            waiter.join(0.2)
            assert remote.downloads == ["0.tar"]

    remote.during = during  # type: ignore[method-assign]
    first.path("0.tar")
    waiter.join(10)
    assert not waiter.is_alive(), "".join(traceback.format_stack(sys._current_frames()[waiter.ident or 0]))
    assert remote.downloads == ["0.tar", "1.tar"]
    assert found[0] is not None
    assert copies(cache) == ["1.tar"]


def test_the_part_of_a_killed_download_takes_no_room(remote: Folder, cache: Path) -> None:
    held = ShardCache(remote, cache, SIZE)
    held.path("0.tar").unlink()
    (cache / f".{held._path('0.tar', held.stats['0.tar']).name}.tmp").write_bytes(b"killed")
    assert held.path("0.tar").read_bytes() == bytes(SIZE)


def test_a_download_that_fails_leaves_nothing(remote: Folder, cache: Path) -> None:
    def during(name: str) -> None:
        raise DataError("stop")

    remote.during = during  # type: ignore[method-assign]
    with pytest.raises(DataError, match="stop"):
        ShardCache(remote, cache, SIZE).path("0.tar")
    assert [path.name for path in cache.iterdir() if not path.name.startswith((".lock", ".room"))] == []


def test_a_damaged_copy_is_replaced(remote: Folder, cache: Path) -> None:
    held = ShardCache(remote, cache, 4 * SIZE)
    held.path("0.tar").write_bytes(b"short")
    assert held.path("0.tar").read_bytes() == bytes(SIZE)
    assert remote.downloads == ["0.tar", "0.tar"]


def test_a_file_that_changes_during_the_run_is_refused(remote: Folder, cache: Path, tmp_path: Path) -> None:
    held = ShardCache(remote, cache, 4 * SIZE)
    held.stats = remote.list()
    os.utime(tmp_path / "origin/0.tar", (1, 1))
    with pytest.raises(DataError, match=r"origin/0\.tar changed at its origin: 1,000 bytes, tag 1\.0, expected 1,000"):
        held.path("0.tar")


def test_a_file_that_changed_between_runs_is_copied_again(remote: Folder, cache: Path, tmp_path: Path) -> None:
    ShardCache(remote, cache, 4 * SIZE).path("0.tar")
    (tmp_path / "origin/0.tar").write_bytes(b"x" * SIZE)
    os.utime(tmp_path / "origin/0.tar", (1, 1))
    assert ShardCache(remote, cache, 4 * SIZE).path("0.tar").read_bytes() == b"x" * SIZE
    assert copies(cache) == ["0.tar"]


def test_a_shard_larger_than_the_cache_is_refused(remote: Folder, cache: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.cache_gb=9\.99e-07: .*/0\.tar alone has 1e-06 GB; write more than"):
        ShardCache(remote, cache, SIZE - 1).path("0.tar")


def test_a_folder_that_cannot_be_written_to_is_one_line(remote: Folder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        DataError, match=r"dataset\.cache_dir: .*/file cannot be written to \(FileExistsError: .*name ano"
    ):
        ShardCache(remote, tmp_path / "file", SIZE).path("0.tar")


def test_a_file_of_unknown_size_is_downloaded_once(
    remote: Folder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web server may compress the index, and then not report its size."""
    monkeypatch.setattr(remote, "stat", lambda name: Stat(-1, ""))
    held = ShardCache(remote, cache, 4 * SIZE)
    assert held.path("0.tar") == held.path("0.tar")
    assert held.path("0.tar").read_bytes() == bytes(SIZE)
    assert remote.downloads == ["0.tar"]
    ShardCache(remote, cache, 4 * SIZE).path("0.tar")
    assert remote.downloads == ["0.tar", "0.tar"]


def test_a_size_that_the_server_does_not_report_comes_from_the_index(
    remote: Folder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "stat", lambda name: Stat(-1, ""))
    held = ShardCache(remote, cache, 4 * SIZE)
    held.sizes = {"0.tar": SIZE, "1.tar": SIZE + 1}
    assert held.path("0.tar").stat().st_size == SIZE
    with pytest.raises(DataError, match="changed at its origin"):
        held.path("1.tar")
