"""Reading shards from an object store and a web server."""

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import fsspec
import pytest
from object_store import BUCKET, SECRET, WebServer

from proteus.datasets import ConcatProxySet, FixedViews, ProxySampler, SampleKey, ShardSampler, WebShards
from proteus.datasets.proxy import shard_sampler
from proteus.datasets.proxy.fitting_views import fitting_keys
from proteus.datasets.shards.index_file import INDEX, UNFINISHED
from proteus.datasets.shards.packing import pack
from proteus.structures import DataError
from proteus.utils.lock import process_lock

STEPS = [{"type": f"proteus.{name}"} for name in ("LoadImage", "ToTensor", "PackInputs")]
COUNT = 40


@pytest.fixture(scope="module")
def url(packed: Path, s3: str) -> str:
    """The shards in a bucket."""
    system = fsspec.filesystem("s3")
    for path in packed.iterdir():
        if not path.name.startswith("."):
            system.put_file(str(path), f"s3://{BUCKET}/set/{path.name}")
    return f"s3://{BUCKET}/set"


@pytest.fixture
def origin(packed: Path, tmp_path: Path) -> Path:
    """A copy of the shards that a test may change."""
    shutil.copytree(packed, tmp_path / "origin")
    return tmp_path / "origin"


@pytest.fixture
def web(origin: Path) -> Iterator[WebServer]:
    with WebServer(origin) as server:
        yield server


def drawn(sampler: ShardSampler, count: int, skipped: int = 0) -> list[SampleKey]:
    sampler.skip(skipped)
    return list(islice(iter(sampler), count))


def content(proxy: WebShards, keys: list[SampleKey]) -> list[tuple[str, bytes]]:
    samples = [proxy[key] for key in keys]
    assert [sample["data_samples"].corrupt for sample in samples] == [[]] * len(keys)
    root = len(proxy.store.root)
    return [(each["data_samples"].img_path[root:], each["inputs"].numpy().tobytes()) for each in samples]


def test_order_and_content_are_those_of_the_disk_also_after_a_resume(url: str, packed: Path, cache: Path) -> None:
    disk, remote = WebShards(str(packed), STEPS), WebShards(url, STEPS)
    assert remote.names() == disk.names()
    assert remote.describe() == f"WebShards {url}: 40 images"
    expected = content(disk, drawn(ShardSampler(disk, seed=7, lanes=2, window=2), 60))
    assert content(remote, drawn(ShardSampler(remote, seed=7, lanes=2, window=2), 60)) == expected
    # A new process in the middle of an epoch, with the copies of the first and with none.
    for folder in (None, str(cache.parent / "other")):
        resumed = WebShards(url, STEPS, cache_dir=folder)
        keys = drawn(ShardSampler(resumed, seed=7, lanes=2, window=2), 20, skipped=25)
        assert content(resumed, keys) == expected[25:45]


@pytest.mark.parametrize("read_ahead", [False, True])
def test_ranks_on_two_machines_download_each_shard_once_per_epoch(
    web: WebServer, cache: Path, monkeypatch: pytest.MonkeyPatch, read_ahead: bool
) -> None:
    sets = []
    for rank in (0, 1):
        monkeypatch.setattr(shard_sampler, "get_dist_info", lambda rank=rank: (rank, 2))
        options = {"cache_dir": str(cache / str(rank)), "cache_gb": 5 * 10_240 / 1e9, "read_ahead": read_ahead}
        proxy = WebShards(web.url, STEPS, **options)
        sampler = ShardSampler(proxy, seed=1, lanes=2, window=1)
        sets.append((proxy, [key for key in drawn(sampler, COUNT) if key.epoch == 0]))
    assert sum(len(keys) for _, keys in sets) == COUNT
    web.gets.clear()
    early = set()  # the first shard of each rank's next epoch, which it reads ahead
    for proxy, keys in sets:
        content(proxy, keys)
        if read_ahead:
            early.add(proxy.order.next_window(*proxy.order.place(0, keys[-1].image))[-1])
            proxy._ahead.wait()
    fetched = {name: count for name, count in web.gets.items() if name not in early}
    assert fetched == {name: 1 for name in (f"{number:05}.tar" for number in range(10)) if name not in early}


def test_the_next_shards_are_fetched_before_they_are_read(web: WebServer, cache: Path) -> None:
    proxy = WebShards(web.url, STEPS)
    keys = drawn(ShardSampler(proxy, seed=1, lanes=1, window=2), 20)
    web.gets.clear()
    proxy[keys[0]]
    proxy._ahead.wait()
    order = proxy.order
    assert set(web.gets) == {f"{shard:05}.tar" for shard in order.shards(0, 0)[:4]}
    assert max(web.gets.values()) == 1
    web.gets.clear()
    quiet = WebShards(web.url, STEPS, read_ahead=False, cache_dir=str(cache / "quiet"))
    quiet.set_order(order)
    quiet[keys[0]]
    shard = quiet.names()[keys[0].image].partition("/")[0]
    assert dict(web.gets) == {INDEX: 1, shard: 1}


def test_the_next_shards_are_requested_once_per_window_of_each_lane(web: WebServer, cache: Path) -> None:
    proxy = WebShards(web.url, STEPS)
    keys = drawn(ShardSampler(proxy, seed=1, lanes=2, window=2), 2 * COUNT)
    wanted: list[list[str]] = []
    proxy._ahead.want = wanted.append
    for key in keys:
        proxy.fetch_ahead(key.image, key.epoch)
    assert len(wanted) == len({proxy.order.place(key.epoch, key.image) for key in keys})


def test_views_to_fit_weights_on_fetch_no_shard_ahead(web: WebServer, cache: Path) -> None:
    proxy = WebShards(web.url, STEPS)
    keys = drawn(ShardSampler(proxy, seed=1, lanes=1, window=2), 1)
    wanted: list[list[str]] = []
    proxy._ahead.want = wanted.append
    for key in fitting_keys(COUNT, 4):
        proxy[key]
    assert wanted == []
    proxy[keys[0]]
    assert len(wanted) == 1


def test_a_small_cache_is_kept_while_a_whole_epoch_is_read(url: str, packed: Path, cache: Path) -> None:
    limit = 3 * max(path.stat().st_size for path in packed.glob("*.tar"))
    proxy = WebShards(url, STEPS, cache_gb=limit / 1e9)
    for key in drawn(ShardSampler(proxy, seed=0, lanes=1, window=1), COUNT):
        proxy[key]
        with process_lock(cache / ".room"):  # while the thread that reads ahead removes nothing
            assert sum(path.stat().st_size for path in cache.iterdir() if not path.name.startswith(".")) <= limit
    proxy._ahead.wait()
    assert len(proxy._reader._open) <= 4  # removed copies are closed


def test_a_set_is_pickled_for_worker_processes_without_credentials(url: str, cache: Path) -> None:
    proxy = WebShards(url, STEPS)
    ShardSampler(proxy, seed=0)
    proxy[0]
    text = pickle.dumps(proxy)
    assert SECRET.encode() not in text
    copy = pickle.loads(text)
    assert content(copy, [SampleKey(0, 0, 5)]) == content(proxy, [SampleKey(0, 0, 5)])


def remove(name: str) -> Callable[[Path], object]:
    return lambda origin: (origin / name).unlink()


def append(origin: Path) -> None:
    with (origin / "00003.tar").open("ab") as file:
        file.write(bytes(512))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove(INDEX), rf"no {INDEX} in file://.*/origin; pack images with proteus pack"),
        (remove("00003.tar"), r"origin/00003\.tar of the index is missing; restore it"),
        (append, r"origin/00003\.tar changed at its origin after it was packed \([\d,]+ bytes, [\d,]+ in the index\)"),
        (lambda origin: (origin / UNFINISHED).write_text("{}"), r"origin are not finished; pack them to the end"),
        (lambda origin: (origin / INDEX).write_text("{"), rf"file://.*/origin/{INDEX} is damaged .*; remove it"),
        (lambda origin: (origin / INDEX).write_bytes(b"\x80\x04N."), rf"origin/{INDEX} is damaged"),
    ],
)
def test_a_changed_origin_is_refused_in_one_line(
    origin: Path, cache: Path, change: Callable[[Path], object], message: str
) -> None:
    change(origin)
    with pytest.raises(DataError, match=message) as refused:
        WebShards(f"file://{origin}")
    assert "\n" not in str(refused.value)


def test_a_set_that_was_copied_with_its_index_has_other_tags(proxy_images: Path, cache: Path, tmp_path: Path) -> None:
    """Tags are times of change here; on an object store, they depend on the parts of an upload."""
    pack(proxy_images, f"file://{tmp_path}/here", per_shard=20, report=lambda _: None)
    shutil.copytree(tmp_path / "here", tmp_path / "copy", copy_function=shutil.copyfile)
    os.utime(tmp_path / "copy/00000.tar", (1, 1))
    assert len(WebShards(f"file://{tmp_path}/copy")) == COUNT
    os.utime(tmp_path / "here/00000.tar", (1, 1))
    with pytest.raises(DataError, match=r"here/00000\.tar changed at its origin after it was packed \(tag 1\.0, "):
        WebShards(f"file://{tmp_path}/here")


def test_a_copy_that_other_processes_remove_is_copied_again_and_is_not_a_corrupt_image(
    url: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = WebShards(url, STEPS)
    path, removals = proxy.store.path, iter([True] * 3 + [False] + [True] * 99)

    def removed(shard: str) -> Path:
        found = path(shard)
        if next(removals):
            found.unlink()
        return found

    monkeypatch.setattr(proxy.store, "path", removed)
    assert proxy[0]["data_samples"].corrupt == []
    with pytest.raises(DataError, match=r"other processes remove the copy .*: write a larger dataset\.cache_gb"):
        proxy[20]


def test_a_shard_larger_than_the_cache_is_refused_at_the_start(url: str, cache: Path) -> None:
    with pytest.raises(
        DataError, match=r"dataset\.cache_gb=5e-06: s3://proxy/set/00000\.tar alone has .* GB; write more"
    ):
        WebShards(url, cache_gb=5e-6)


def test_a_web_server_that_cannot_list_notices_a_changed_shard_when_it_is_read(
    web: WebServer, origin: Path, cache: Path
) -> None:
    proxy = WebShards(web.url, STEPS)
    append(origin)
    with pytest.raises(DataError, match=r"/00003\.tar changed at its origin after it was packed"):
        proxy[12]
    assert proxy[0]["data_samples"].corrupt == []
    (origin / "00002.tar").unlink()
    with pytest.raises(DataError, match=r"/00002\.tar does not exist; check the URL"):
        proxy[8]


def test_an_index_cannot_name_files_outside_of_the_cache(origin: Path, cache: Path) -> None:
    text = (origin / INDEX).read_text()
    (origin / INDEX).write_text(text.replace('"00003.tar"', '"../00003.tar"'))
    with pytest.raises(DataError, match=r"is damaged \(ValueError: '\.\./00003\.tar' is not a shard name\)"):
        WebShards(f"file://{origin}")


def test_sets_that_share_a_cache_are_compared_with_it_together(
    url: str, origin: Path, cache: Path, lines: list[str]
) -> None:
    size = sum(path.stat().st_size for path in origin.glob("*.tar"))
    part = {"type": "proteus.WebShards", "pipeline": STEPS, "cache_gb": 1.5 * size / 1e9}
    first, second = ({**part, "data_root": root} for root in (url, f"file://{origin}"))
    ProxySampler(ConcatProxySet({"a": first, "again": {**first, "classes": 2}}), seed=0)
    ProxySampler(ConcatProxySet({"a": first, "b": {**second, "cache_dir": str(cache / "other")}}), seed=0)
    assert not [line for line in lines if "cache_gb" in line]
    ProxySampler(ConcatProxySet({"a": first, "b": {**second, "cache_gb": 100}}), seed=0)
    (line,) = [line for line in lines if "cache_gb" in line]
    assert line.startswith(f"dataset.cache_gb={1.5 * size / 1e9:g}: the shards of {url} and file://{origin} have ")
    assert f" have {2 * size / 1e9:.3g} GB, and this sampler reads all of them all the time" in line


def test_a_cache_that_is_too_small_for_the_sampler_is_reported(url: str, cache: Path, lines: list[str]) -> None:
    proxy = WebShards(url, STEPS, cache_gb=3e-5)
    ProxySampler(proxy, seed=0)
    assert [line for line in lines if "this sampler reads all of them all the time" in line]
    ShardSampler(proxy, seed=0, lanes=2, window=2)
    assert [line for line in lines if "2 lanes of 2 shards, read ahead, take" in line]
    part = {"type": "proteus.WebShards", "data_root": url, "pipeline": STEPS, "cache_gb": 3e-5}
    for whole in (ConcatProxySet({"a": part}), FixedViews({"type": "proteus.ConcatProxySet", "datasets": {"a": part}})):
        lines.clear()
        ProxySampler(whole, seed=0)
        assert len([line for line in lines if "write a larger cache_gb" in line]) == 1
    lines.clear()
    ShardSampler(proxy, seed=0, lanes=1, window=1)
    ProxySampler(WebShards(url, STEPS), seed=0)
    assert not [line for line in lines if "cache_gb" in line]
    with pytest.raises(ValueError, match=r"dataset\.cache_gb"):
        WebShards(url, cache_gb=0)
