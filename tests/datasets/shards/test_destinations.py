import json
from pathlib import Path

import fsspec
import pytest
from object_store import BUCKET

from proteus.datasets import WebShards
from proteus.datasets.shards.index_file import INDEX, UNFINISHED
from proteus.datasets.shards.packing import pack
from proteus.structures import DataError

STEPS = [{"type": f"proteus.{name}"} for name in ("LoadImage", "ToTensor", "PackInputs")]


def there(url: str) -> dict[str, bytes]:
    system = fsspec.filesystem("s3")
    system.invalidate_cache()
    return {path.rpartition("/")[2]: system.cat_file(path) for path in system.ls(url, detail=False)}


def test_shards_are_packed_to_a_bucket_as_to_a_folder_and_read_back(
    s3: str, proxy_images: Path, packed: Path, cache: Path
) -> None:
    url, lines = f"s3://{BUCKET}/packed", []
    index = pack(proxy_images, url, per_shard=4, shuffle=True, report=lines.append)
    files = there(url)
    assert sorted(files) == sorted([*(f"{number:05}.tar" for number in range(10)), INDEX])
    assert all(content == (packed / name).read_bytes() for name, content in files.items() if name != INDEX)
    assert [len(shard.tag) for shard in index.shards] == [32] * 10
    disk, remote = WebShards(str(packed), STEPS), WebShards(url, STEPS)
    assert remote.names() == disk.names()
    assert all((remote[at]["inputs"] == disk[at]["inputs"]).all() for at in (0, 17, 39))
    assert [path.name for path in (cache.parent).glob("packing-*/*")] == [".lock"]
    # A second call packs nothing, as for a folder.
    again: list[str] = []
    assert pack(proxy_images, url, per_shard=4, shuffle=True, report=again.append).shards == index.shards
    assert sum("was there" in line for line in again) == 10


def test_an_interrupted_upload_resumes_and_a_replaced_shard_is_written_again(
    s3: str, proxy_images: Path, cache: Path
) -> None:
    url = f"s3://{BUCKET}/interrupted"

    def interrupt(line: str) -> None:
        if line.startswith("3/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(proxy_images, url, per_shard=10, report=interrupt)
    assert UNFINISHED in there(url)
    with pytest.raises(DataError, match="interrupted are not finished"):
        WebShards(url)
    with pytest.raises(DataError, match=r"interrupted has shards with other settings \(per_shard=10\)"):
        pack(proxy_images, url, per_shard=8)
    fsspec.filesystem("s3").pipe_file(f"{url}/00001.tar", b"other")
    lines: list[str] = []
    pack(proxy_images, url, per_shard=10, report=lines.append)
    assert ["was there" in line for line in lines] == [True, False, True, False]
    assert len(WebShards(url)) == 40
    # Content of the same size that was replaced later is noticed by its ETag.
    size = len(there(url)["00002.tar"])
    fsspec.filesystem("s3").pipe_file(f"{url}/00002.tar", bytes(size))
    with pytest.raises(
        DataError, match=r"00002\.tar changed at its origin after it was packed \(tag .*, .* in the index"
    ):
        WebShards(url)


def test_worker_processes_pack_to_a_url_and_find_what_is_there(
    proxy_images: Path, packed: Path, cache: Path, tmp_path: Path
) -> None:
    lines: list[list[str]] = [[], []]
    for each in lines:
        pack(proxy_images, f"file://{tmp_path}/there", per_shard=4, shuffle=True, workers=2, report=each.append)
    assert [sum("was there" in line for line in each) for each in lines] == [0, 10]
    for path in packed.glob("*.tar"):
        assert (tmp_path / "there" / path.name).read_bytes() == path.read_bytes()


def test_targets_that_cannot_be_used_are_refused(s3: str, proxy_images: Path, cache: Path) -> None:
    with pytest.raises(DataError, match=r"target: https://h/x can only be read; write to s3://, gs:// or a folder"):
        pack(proxy_images, "https://h/x")
    fsspec.filesystem("s3").pipe_file(f"{BUCKET}/foreign/0.tar", b"x")
    with pytest.raises(DataError, match=r"s3://proxy/foreign has shards of another tool; give an empty folder"):
        pack(proxy_images, f"s3://{BUCKET}/foreign")
    fsspec.filesystem("s3").pipe_file(f"{BUCKET}/damaged/{UNFINISHED}", json.dumps([]).encode())
    with pytest.raises(DataError, match=rf"s3://proxy/damaged/{UNFINISHED} is damaged"):
        pack(proxy_images, f"s3://{BUCKET}/damaged")
