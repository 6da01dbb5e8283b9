import logging
import os
import pickle
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from mmengine.logging import MMLogger
from PIL import Image
from runs import SERVER, start
from torch.utils.data import DataLoader

from proteus.datasets import CorruptImageError, ImageFolder, SampleKey, WebShards
from proteus.datasets.proxy.subsampling import write_list
from proteus.datasets.proxy.web_shards import ShardReader
from proteus.datasets.shards.index_file import INDEX
from proteus.datasets.shards.packing import pack

STEPS = [{"type": f"proteus.{name}"} for name in ("LoadImage", "ToTensor", "PackInputs")]
COUNT = 50


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 images in five classes."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for number in range(COUNT):
        path = root / f"n{number % 5}" / f"{number:03}.{'png' if number % 7 == 0 else 'jpg'}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(path)
    return root


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


@pytest.fixture
def shards(images: Path, tmp_path: Path) -> Path:
    pack(images, tmp_path / "shards", per_shard=8, report=lambda _: None)
    return tmp_path / "shards"


@pytest.mark.slow
def test_random_access_in_any_order_and_process(images: Path, shards: Path) -> None:
    folder, proxy = ImageFolder(str(images), STEPS), WebShards(str(shards), STEPS)
    assert len(proxy) == COUNT
    assert [proxy.path_of(name) for name in proxy.names()] == folder.names()
    keys = [SampleKey(0, 0, int(image)) for image in torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))]
    proxy[0]  # opened before the workers are forked
    for context in ("fork", SERVER):  # SERVER: the set is pickled, as with "spawn"
        loader = DataLoader(proxy, batch_size=None, sampler=keys, num_workers=2, multiprocessing_context=context)
        for key, sample in zip(keys, loader, strict=True):
            assert torch.equal(sample["inputs"], folder[key.image]["inputs"])
    name = folder.names()[0]
    assert proxy[0]["data_samples"].metainfo == {"img_path": f"{shards}/00000.tar/{name}", "corrupt": []}


def test_truncated_shards_are_reported_and_their_images_replaced(shards: Path, warnings: list[str]) -> None:
    whole = WebShards(str(shards), STEPS)
    views = [whole[index]["inputs"] for index in range(COUNT)]
    cut = shards / "00002.tar"
    cut.write_bytes(cut.read_bytes()[: whole.get_data_info(19)["offset"] + 10])  # three of its eight are left
    proxy = WebShards(str(shards), STEPS)
    assert [text for text in warnings if f"{cut} is truncated" in text and "5 of its 8 images are corrupt" in text]
    assert len(proxy) == COUNT
    corrupt = []
    for index in range(COUNT):
        sample = proxy[index]
        corrupt += sample["data_samples"].corrupt
        assert torch.equal(sample["inputs"], views[index]) == (not 19 <= index < 24)
    names = whole.names()
    assert sorted(set(corrupt)) == [f"{shards}/{names[index]} (the shard is truncated)" for index in range(19, 24)]


def test_images_of_a_removed_shard_are_corrupt(shards: Path) -> None:
    proxy = WebShards(str(shards), STEPS)
    (shards / "00001.tar").unlink()
    assert proxy[0]["data_samples"].corrupt == []
    assert "00001.tar" in proxy[8]["data_samples"].corrupt[0]
    with pytest.raises(CorruptImageError, match="No such file"):
        proxy.get_data_info(8)


def test_shards_made_by_others(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards with labels and masks next to the images, equal names in every shard, and one truncated shard."""
    monkeypatch.setenv("PROTEUS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "shards"
    folder.mkdir()
    names = ImageFolder(str(images)).names()
    mask = BytesIO()
    Image.new("L", (4, 4)).save(mask, "PNG")
    with webdataset.ShardWriter(str(folder / "train-%03d.tar"), maxcount=10, verbose=0) as writer:
        for number, name in enumerate(names):
            content = (images / name).read_bytes()
            writer.write(
                {
                    "__key__": f"{number % 10:04}",
                    Path(name).suffix[1:]: content,
                    "seg.png": mask.getvalue(),
                    "cls": number % 5,
                    "json": {"caption": "no"},
                }
            )
    last = folder / "train-004.tar"
    last.write_bytes(last.read_bytes()[:-15_000])
    proxy = WebShards(str(folder), STEPS)
    assert (folder / INDEX).exists()
    assert 40 < len(proxy) <= COUNT
    plain = ImageFolder(str(images), STEPS)
    views = [plain[index]["inputs"] for index in range(COUNT)]
    lost = [index for index in range(len(proxy)) if not torch.equal(proxy[index]["inputs"], views[index])]
    assert len(lost) <= 1
    assert all(proxy[index]["data_samples"].corrupt for index in lost)
    assert len(set(proxy.names())) == len(proxy)


def test_subsets_of_a_folder_and_its_shards_are_equal(images: Path, shards: Path, tmp_path: Path) -> None:
    options = {"images_per_class": 0.3, "classes": 3, "subset_seed": 4}
    folder, proxy = ImageFolder(str(images), **options), WebShards(str(shards), **options)
    assert [proxy.path_of(name) for name in proxy.names()] == folder.names()
    assert len(proxy) == 9
    write_list(tmp_path / "list.txt", proxy.names(), "of a test")
    assert WebShards(str(shards), list_file=str(tmp_path / "list.txt")).names() == proxy.names()


def test_a_limited_number_of_files_is_kept_open(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(6)]
    for path in paths:
        path.write_bytes(path.name.encode() * 100)
    before = len(os.listdir("/proc/self/fd"))
    reader = ShardReader(max_open=3)
    for path in paths * 3:
        assert reader.read(path, 50, 10) == path.name.encode() * 10
    assert reader.read(paths[0], 95, 10) == b"00000"
    assert len(os.listdir("/proc/self/fd")) == before + 3
    copy = pickle.loads(pickle.dumps(reader))
    assert copy.read(paths[0], 0, 2) == b"00"
    reader.close()
    del copy
    assert len(os.listdir("/proc/self/fd")) == before


RANK = """
import sys

import torch
from mmengine.dataset import worker_init_fn
from torch import distributed
from torch.utils.data import DataLoader

from proteus.datasets import ProxySampler, WebShards

root, store, target, rank, resumed, batches = *sys.argv[1:4], *map(int, sys.argv[4:])
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
steps = [{"type": f"proteus.{name}"} for name in ("LoadImage", "ToTensor", "PackInputs")]
proxy = WebShards(root, steps)
sampler = ProxySampler(proxy, seed=3)
sampler.skip(resumed)
loader = DataLoader(
    proxy, 5, sampler=sampler, num_workers=2, collate_fn=list, worker_init_fn=lambda w: worker_init_fn(w, 2, rank, 3)
)
seen = []
for _, batch in zip(range(batches), loader):
    seen += [(sample["data_samples"].img_path, float(sample["inputs"].sum())) for sample in batch]
torch.save(seen, f"{target}.{rank}")
distributed.barrier()
distributed.destroy_process_group()
"""


def two_ranks(shards: Path, tmp_path: Path, resumed: int) -> list[list[tuple[str, float]]]:
    """Run two ranks with two workers each for two epochs; returns the images that each of them read."""
    store, target = tmp_path / f"store{resumed}", tmp_path / f"seen{resumed}"
    script, batches = tmp_path / "rank.py", (COUNT - resumed) // 5
    script.write_text(RANK)
    log = tmp_path / f"log{resumed}"
    ranks = [start(script, shards, store, target, rank, resumed, batches, log=log) for rank in (0, 1)]
    for rank in ranks:
        rank.join(120)
    assert [rank.exitcode for rank in ranks] == [0, 0], log.read_text()
    return [torch.load(f"{target}.{rank}") for rank in (0, 1)]


@pytest.mark.slow
def test_two_ranks_with_two_workers_see_each_sample_once_and_resume(shards: Path, tmp_path: Path) -> None:
    """The shards have no index at first, so both ranks request it concurrently."""
    (shards / INDEX).unlink()
    straight, resumed = two_ranks(shards, tmp_path, 0), two_ranks(shards, tmp_path, 20)
    assert (shards / INDEX).exists()
    names = [f"{shards}/{name}" for name in WebShards(str(shards)).names()]
    half = COUNT // 2
    for epoch in (slice(0, half), slice(half, None)):
        assert Counter(path for rank in straight for path, _ in rank[epoch]) == Counter(names)
    assert straight[0][:half] != straight[0][half:]
    assert resumed == [rank[20:] for rank in straight]


def test_corrupt_images_have_stable_names(tmp_path: Path) -> None:
    """The hook counts these texts: a memory address in one would make each failure another image."""
    (tmp_path / "sample").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"sample/{number}.jpg")
    pack(tmp_path / "sample", tmp_path / "shards", report=lambda _: None)
    shard = tmp_path / "shards/00000.tar"
    first = WebShards(str(tmp_path / "shards"), STEPS).get_data_info(0)
    content = bytearray(shard.read_bytes())
    content[first["offset"] : first["offset"] + first["size"]] = b"x" * first["size"]
    shard.write_bytes(content)
    proxy = WebShards(str(tmp_path / "shards"), STEPS)
    texts = {text for _ in range(3) for text in proxy[0]["data_samples"].corrupt}
    assert texts == {f"{shard}/0.jpg (UnidentifiedImageError: not an image file)"}
