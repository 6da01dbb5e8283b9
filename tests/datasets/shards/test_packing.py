import json
import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from proteus.datasets import ImageFolder, WebShards
from proteus.datasets.shards.index import read_index, scan
from proteus.datasets.shards.index_file import INDEX, UNFINISHED, load_index
from proteus.datasets.shards.packing import keys_of, pack
from proteus.datasets.shards.shard_writing import encode
from proteus.structures import DataError, LockedError

CORRUPT = ("b/03.jpg", "b/page.png")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """26 images, two of them corrupt."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for number in range(24):
        pixels = Image.fromarray(generator.integers(0, 255, (6, 8, 3), dtype=np.uint8))
        path = root / "ab"[number % 2] / f"{number:02}.{'png' if number % 5 == 0 else 'jpg'}"
        path.parent.mkdir(exist_ok=True)
        pixels.resize((80, 60) if number % 3 else (40, 30)).save(path)
    (root / "a/02.v2.jpg").write_bytes((root / "a/02.jpg").read_bytes())
    (root / CORRUPT[0]).write_bytes((root / CORRUPT[0]).read_bytes()[:300])
    (root / CORRUPT[1]).write_text("<html>404</html>")
    return root


def readable(images: Path) -> list[str]:
    return [name for name in ImageFolder(str(images)).names() if name not in CORRUPT]


def test_webdataset_reads_the_shards(images: Path, tmp_path: Path) -> None:
    """The webdataset library finds each image under its key, byte for byte."""
    lines: list[str] = []
    index = pack(images, tmp_path / "shards", per_shard=10, report=lines.append)
    assert [len(shard.images) for shard in index.shards] == [10, 10 - 1, 6 - 1]
    urls = [str(path) for path in sorted((tmp_path / "shards").glob("*.tar"))]
    samples = {
        sample["__key__"]: sample
        for sample in webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)
        if sample["__key__"]
    }
    assert list(samples) == keys_of(readable(images))
    for name, key in zip(readable(images), samples, strict=True):
        assert samples[key][Path(name).suffix[1:]] == (images / name).read_bytes()
    assert len(lines) == 3
    for name in CORRUPT:
        assert sum(f"corrupt, left out: {images / name}" in text for text in lines) == 1
    assert sorted(index.left_out) == sorted(CORRUPT)
    summary = json.loads((tmp_path / "shards" / INDEX).read_text())
    assert (summary["images"], summary["shards"]) == (24, 3)
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == [
        ".lock",
        "00000.tar",
        "00001.tar",
        "00002.tar",
        INDEX,
    ]


def test_shards_give_the_same_images_as_the_folder(images: Path, tmp_path: Path) -> None:
    steps = [{"type": f"proteus.{name}"} for name in ("LoadImage", "ToTensor", "PackInputs")]
    pack(images, tmp_path / "shards", per_shard=7, workers=2, report=lambda _: None)
    folder, shards = ImageFolder(str(images), steps), WebShards(str(tmp_path / "shards"), steps)
    names = folder.names()
    for position, name in enumerate(readable(images)):
        assert (shards[position]["inputs"] == folder[names.index(name)]["inputs"]).all()


def test_shards_do_not_depend_on_the_number_of_workers(images: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        pack(images, tmp_path / str(workers), short_side=40, per_shard=4, workers=workers, report=lambda _: None)
    files = sorted(path.name for path in (tmp_path / "1").iterdir() if path.name != ".lock")
    assert len(files) == 8
    for name in files:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()


def test_only_large_images_are_reduced(images: Path, tmp_path: Path) -> None:
    pack(images, tmp_path / "shards", short_side=40, quality=90, report=lambda _: None)
    shards = WebShards(str(tmp_path / "shards"))
    for position, name in enumerate(readable(images)):
        content = shards.get_data_info(position)["img_bytes"]
        original = Image.open(images / name)
        if min(original.size) <= 40:
            assert content == (images / name).read_bytes()
        else:
            ending, again = encode(images / name, 40, 90)
            assert (ending, content) == ("jpg", again)
            wanted = np.asarray(original.convert("RGB").resize((53, 40), Image.Resampling.BICUBIC), dtype=float)
            (tmp_path / "small.jpg").write_bytes(content)
            found = np.asarray(Image.open(tmp_path / "small.jpg"), dtype=float)
            assert np.abs(found - wanted).mean() < 6


def test_resume_after_an_interruption(images: Path, tmp_path: Path) -> None:
    """Complete shards are kept; truncated, damaged or removed ones are written again."""
    target = tmp_path / "shards"

    def interrupt(text: str) -> None:
        if text.startswith("3/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(images, target, per_shard=5, report=interrupt)
    assert (target / UNFINISHED).exists()
    with pytest.raises(ValueError, match="not finished"):
        read_index(target)
    before = {path.name: path.stat().st_mtime_ns for path in target.glob("*.tar")}
    assert len(before) == 3
    cut = target / "00001.tar"
    cut.write_bytes(cut.read_bytes()[:3000])
    (target / "00004.tar.part").write_bytes(b"half")
    lines: list[str] = []
    index = pack(images, target, per_shard=5, report=lines.append)
    assert [text.split()[1] for text in lines if "was there" in text] == ["00000.tar:", "00002.tar:"]
    assert (target / "00000.tar").stat().st_mtime_ns == before["00000.tar"]
    assert cut.stat().st_mtime_ns != before["00001.tar"]
    pack(images, tmp_path / "straight", per_shard=5, report=lambda _: None)
    assert index == load_index(tmp_path / "straight" / INDEX)
    assert not (target / UNFINISHED).exists()
    again: list[str] = []
    assert pack(images, target, per_shard=5, report=again.append) == index
    assert sum("was there" in text for text in again) == 6


def test_repaired_images_are_packed(images: Path, tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    for number in range(4):
        (root / f"{number}.jpg").write_bytes((images / "a/02.jpg").read_bytes() if number else b"")
    assert list(pack(root, tmp_path / "shards", report=lambda _: None).left_out) == ["0.jpg"]
    (root / "0.jpg").write_bytes((root / "1.jpg").read_bytes())
    index = pack(root, tmp_path / "shards", report=lambda _: None)
    assert index.left_out == {}
    assert [name for name, _, _ in index.shards[0].images] == [f"{number}.jpg" for number in range(4)]


def test_other_images_or_settings_are_refused(images: Path, tmp_path: Path) -> None:
    target = tmp_path / "shards"
    pack(images, target, report=lambda _: None)
    with pytest.raises(ValueError, match=r"with other settings \(short_side=None, quality=90\); give an empty folder"):
        pack(images, target, short_side=32, quality=80)
    with pytest.raises(ValueError, match=r"images=26, the images themselves"):
        pack(images / "a", target)
    (target / INDEX).unlink()
    with pytest.raises(ValueError, match="shards of another tool"):
        pack(images, target)
    assert not scan(target / "00000.tar").cut
    with pytest.raises(ValueError, match="quality 1 to 95"):
        pack(images, tmp_path / "other", quality=100)
    with pytest.raises(ValueError, match=r"^source: no folder .*nowhere; name a folder that has images in it"):
        pack(tmp_path / "nowhere", tmp_path / "other")


def test_missing_webdataset_is_reported_with_the_command(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(ModuleNotFoundError, match="packing needs webdataset: pip install webdataset"):
        pack(images, tmp_path / "shards")


def test_keys_are_unique_and_have_no_dots() -> None:
    names = ["a.b/c.jpg", "a.b/c.png", "a.b/c.v2.jpg", "a.b/c_2.jpg", "a.b/c_v2.jpg", ".jpg", "ö.jpg"]
    assert keys_of(names) == ["a.b/c", "a.b/c_2", "a.b/c_v2", "a.b/c_2_2", "a.b/c_v2_2", "_jpg", "ö"]


def test_a_second_process_is_locked_out_with_the_name_of_the_first(images: Path, tmp_path: Path) -> None:
    def second(line: str) -> None:
        with pytest.raises(LockedError, match=rf"in use by packing shards, process {os.getpid()} on .*; wait for it"):
            pack(images, tmp_path / "shards", per_shard=10, report=lambda _: None)
        refused.append(line)

    refused: list[str] = []
    pack(images, tmp_path / "shards", per_shard=10, report=second)
    assert len(refused) == 3
    assert len(WebShards(str(tmp_path / "shards"))) == 24


def test_interrupted_packing_resumes(images: Path, tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(images, tmp_path / "shards", per_shard=10, report=interrupt)
    with pytest.raises(DataError, match="are not finished"):
        WebShards(str(tmp_path / "shards"))
    (tmp_path / f"shards/.00001.tar.{socket.gethostname()}-999999999.tmp").write_bytes(b"from a run that was killed")
    lines: list[str] = []
    pack(images, tmp_path / "shards", per_shard=10, report=lines.append)
    assert ["was there" in line for line in lines] == [True, False, False]
    assert sorted(path.suffix for path in (tmp_path / "shards").iterdir()) == ["", ".json", ".tar", ".tar", ".tar"]
    pack(images, tmp_path / "whole", per_shard=10, report=lambda _: None)
    for name in ("00000.tar", "00001.tar", "00002.tar", INDEX):
        assert (tmp_path / "shards" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_folders_with_other_shards_are_not_touched(images: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.tar").write_bytes(bytes(1024))
    with pytest.raises(DataError, match="has shards of another tool; give an empty folder"):
        pack(images, tmp_path, report=lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.tar"]


@pytest.mark.parametrize("content", ["", "[]", "{", '"text"', "3"])
def test_damaged_settings_of_an_unfinished_packing_are_named(images: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / UNFINISHED).write_text(content)
    with pytest.raises(DataError, match=rf"{UNFINISHED} is damaged .*; empty the folder and pack again"):
        pack(images, tmp_path, report=lambda _: None)


def test_names_in_any_script_and_in_no_encoding_are_kept_and_printable(images: Path, tmp_path: Path) -> None:
    content = (images / "a/02.jpg").read_bytes()
    latin = [os.fsdecode(name) for name in (b"caf\xe9.jpg", b"caf\xe9-corrupt.jpg")]
    for name in ("ü/é.jpg", "日本.jpg", latin[0]):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(content)
    (tmp_path / "images" / latin[1]).write_bytes(content[:300])
    lines: list[str] = []
    index = pack(tmp_path / "images", tmp_path / "shards", report=lines.append)
    assert list(index.left_out) == [latin[1]]
    assert "caf\\udce9-corrupt.jpg" in "".join(lines).encode("utf-8").decode()
    proxy = WebShards(str(tmp_path / "shards"))
    names = [proxy.path_of(name) for name in proxy.names()]
    assert sorted(names) == sorted(["ü/é.jpg", "日本.jpg", latin[0]])
    assert all(proxy.get_data_info(at)["img_bytes"] == content for at in range(3))
