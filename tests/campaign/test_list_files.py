"""Folders and lists as people have them: links in circles, files of macOS, names of any bytes."""

from __future__ import annotations

import csv
import os
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from PIL import Image

from proteus.apis import infer as inference
from proteus.datasets import (
    CorruptImageError,
    ImageFolder,
    ImageNetVariant,
    LabelledFolder,
    LoadImage,
    LoadRandomResizedCrop,
    WebShards,
)
from proteus.datasets.depth.pairs import list_folders
from proteus.datasets.fine_grained.listing import class_folders, read_rows
from proteus.datasets.proxy.subsampling import read_list, write_list
from proteus.datasets.robustness import imagenet_wnids
from proteus.datasets.shards.packing import pack
from proteus.structures import DataError

ODD_NAMES = (
    "#1.jpg",
    "a b .jpg",
    " lead.jpg",
    "new\nline.jpg",
    "return\r.jpg",
    "ends\r",
    "line\u2028separator\u2029\x0b\x0c\x1c\x85.jpg",
    '"quoted".jpg',
    '"',
    "\ufeffmark.jpg",
    os.fsdecode(b"caf\xe9.jpg"),
    os.fsdecode(b"\xff\xfe.jpg"),
    "back\\slash.jpg",
    "%s {x} 日本.jpg",
)


def picture(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), level).save(path, "PNG")
    return path


def eight(root: Path) -> Path:
    """Eight images in two folders of two classes."""
    for number in range(8):
        picture(root / imagenet_wnids()[number % 2] / f"{number}.png")
    return root


def to_itself(root: Path) -> None:
    (root / imagenet_wnids()[0] / "self").symlink_to(root / imagenet_wnids()[0])


def to_its_parent(root: Path) -> None:
    (root / imagenet_wnids()[1] / "up").symlink_to("..", target_is_directory=True)


def in_a_circle(root: Path) -> None:
    one, other = (root / name for name in imagenet_wnids()[:2])
    (one / "other").symlink_to(other)
    (other / "one").symlink_to(one)


def chain(root: Path) -> None:
    for number in range(5):
        (root / imagenet_wnids()[0] / f"link{number}").symlink_to(root)


def inferred(root: Path) -> list[str]:
    return [str(path) for path in inference._images(root, root / "out") or []]


def packed(root: Path) -> list[str]:
    pytest.importorskip("webdataset")
    index = pack(root, root.parent / "shards", report=lambda _: None)
    return [name for shard in index.shards for name, _, _ in shard.images]


def depth_pairs(root: Path) -> list[str]:
    for path in root.rglob("*.png"):
        picture(root.parent / "depths" / path.relative_to(root))
    return [pair.image for pair in list_folders(root, root.parent / "depths")]


WALKERS: dict[str, Callable[[Path], list[str]]] = {
    "ImageFolder": lambda root: ImageFolder(str(root), index_cache=False).names(),
    "LabelledFolder": lambda root: LabelledFolder(data_root=str(root), index_cache=False).names(),
    "ImageNetVariant": lambda root: ImageNetVariant(data_root=str(root), index_cache=False).names(),
    "infer": inferred,
    "pack": packed,
    "depth": depth_pairs,
}


@pytest.mark.parametrize("link", [to_itself, to_its_parent, in_a_circle, chain])
@pytest.mark.parametrize("walker", WALKERS)
def test_each_real_folder_counts_once(tmp_path: Path, walker: str, link: Callable[[Path], None]) -> None:
    root = eight(tmp_path / "set")
    link(root)
    names = WALKERS[walker](root)
    assert len(names) == len(set(names)) == 8
    assert not any(part in name for name in names for part in ("self/", "up/", "link"))


def test_links_to_folders_elsewhere_are_followed(tmp_path: Path) -> None:
    eight(tmp_path / "elsewhere")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/a").symlink_to(tmp_path / "elsewhere")
    names = ImageFolder(str(tmp_path / "set"), index_cache=False).names()
    assert len(names) == 8
    assert all(name.startswith("a/") for name in names)


def test_a_class_that_links_to_another_class_is_refused(tmp_path: Path) -> None:
    root = eight(tmp_path / "set")
    (root / "zebra").symlink_to(root / imagenet_wnids()[0])
    with pytest.raises(DataError, match=r"zebra links to the class folder n01440764.*; remove the link"):
        LabelledFolder(data_root=str(root), index_cache=False)


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_segmentation_folders_with_links_in_a_circle_are_refused(tmp_path: Path, folder: str) -> None:
    """mmseg itself lists what is there 41 times."""
    pytest.importorskip("mmseg")
    from proteus.datasets import SegmentationSet

    init_default_scope("mmseg")
    Image.new("RGB", (8, 8)).save(picture(tmp_path / "images/a.jpg"))
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) % 2).save(picture(tmp_path / "masks/a.png"))
    prefix = {"img_path": "images", "seg_map_path": "masks"}
    config = {
        "type": "BaseSegDataset",
        "data_root": str(tmp_path),
        "data_prefix": prefix,
        "metainfo": {"classes": "ab"},
    }
    assert len(SegmentationSet(ConfigDict(config))) == 1
    (tmp_path / folder / "again").symlink_to(tmp_path / folder)
    with pytest.raises(DataError, match=rf"{folder}/again links to .*{folder}, which is also listed: remove the link"):
        SegmentationSet(ConfigDict(config))


@pytest.mark.parametrize("walker", WALKERS)
def test_files_that_operating_systems_add_are_passed_over(tmp_path: Path, walker: str) -> None:
    root = eight(tmp_path / "set")
    for path in list(root.rglob("*.png")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX/._0.png").write_bytes(b"\0\5\x16\7")
    picture(root / "__MACOSX/0.png")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (root / imagenet_wnids()[0] / name).write_bytes(b"\0")
    assert len(WALKERS[walker](root)) == 8
    assert {name: len(images) for name, images in class_folders(root).items()} == dict.fromkeys(imagenet_wnids()[:2], 4)


def test_what_was_passed_over_is_counted_once_in_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = eight(tmp_path / "set")
    for number in range(3):
        (root / f"._{number}.jpg").touch()
    inferred(root)
    assert capsys.readouterr().err.count(f"{root}: 3 files passed over that an operating system added") == 1


def test_pipes_and_links_to_nothing(tmp_path: Path) -> None:
    """Reading a pipe would block forever; a broken link is listed, and named when it is read."""
    root = eight(tmp_path / "set")
    os.mkfifo(root / "pipe.png")
    (root / "gone.png").symlink_to(tmp_path / "nowhere.png")
    names = ImageFolder(str(root), index_cache=False).names()
    assert len(names) == 9
    with pytest.raises(CorruptImageError, match=r"gone\.png"):
        LoadImage()({"img_path": str(root / "gone.png")})
    (root / "link.png").symlink_to(root / "pipe.png")
    (root / "zero.png").symlink_to("/dev/zero")
    with (root / "sparse.png").open("wb") as file:
        file.truncate(1 << 40)
    for load in (LoadImage(), LoadRandomResizedCrop(8)):
        for name in ("link.png", "zero.png"):
            with pytest.raises(CorruptImageError, match=rf"{name} \(OSError: a pipe, socket or device"):
                load({"img_path": str(root / name)})
        with pytest.raises(CorruptImageError, match=r"sparse\.png \(OSError: 1099\.5 GB, larger than any image\)"):
            load({"img_path": str(root / "sparse.png")})


def test_names_that_are_not_utf_8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the listing through subsets and shards to the table of predictions."""
    pytest.importorskip("webdataset")
    names = sorted(os.fsdecode(f"{number}".encode() + b"\xe9\xff.png") for number in range(5))
    for name in names:
        picture(tmp_path / "set/class" / name)
    steps = [{"type": "proteus.LoadImage"}, {"type": "proteus.ToTensor"}, {"type": "proteus.PackInputs"}]
    for split in ("train", "held-out", "all"):
        data = ImageFolder(str(tmp_path / "set"), steps, split=split, held_out=0.5, index_cache=str(tmp_path / "cache"))
        for position, name in enumerate(data.names()):
            assert data[position]["data_samples"].img_path == f"{tmp_path}/set/{name}"
    part = ImageFolder(str(tmp_path / "set"), images_per_class=3)
    write_list(tmp_path / "list.txt", part.names(), "chosen")
    assert ImageFolder(str(tmp_path / "set"), list_file=str(tmp_path / "list.txt")).names() == part.names()
    pack(tmp_path / "set", tmp_path / "shards")
    assert "5 images" in capsys.readouterr().out
    shards = WebShards(str(tmp_path / "shards"), steps)
    assert [name.partition("/")[2] for name in shards.names()] == [f"class/{name}" for name in names]
    assert shards[4]["inputs"].shape == (3, 8, 8)
    (tmp_path / "set/class" / names[0]).write_bytes(b"")
    index = pack(tmp_path / "set", tmp_path / "others", report=print)
    assert list(index.left_out) == [f"class/{names[0]}"]


def test_a_tool_prints_names_that_are_not_utf_8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from proteus.cli.run import run

    name = os.fsdecode(b"caf\xe9.png")

    def main(args: Namespace) -> int:
        print(f"read {name}")
        raise DataError(f"{name}: broken")

    with pytest.raises(SystemExit) as ended:
        run(main, Namespace())
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == "read caf\\udce9.png\n"


def test_predictions_csv_keeps_names_of_any_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from proteus.apis.predictors import Classifier

    class Sure(Classifier):
        def __init__(self) -> None:
            self.classes = None

        def predict(self, image: Image.Image, name: str) -> np.ndarray:
            return np.ones(1, np.float32)

    for name in ODD_NAMES:
        if name.endswith(".jpg"):
            picture(tmp_path / "in" / name)
    monkeypatch.setattr(inference, "build_predictor", lambda *_: Sure())
    assert inference.infer(ConfigDict(), "none", tmp_path / "in", tmp_path / "out") == []
    with (tmp_path / "out/predictions.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.reader(file))[1:]
    assert sorted(Path(row[0]).name for row in rows) == sorted(name for name in ODD_NAMES if name.endswith(".jpg"))


def test_lists_of_odd_names_come_back(tmp_path: Path) -> None:
    write_list(tmp_path / "list.txt", ODD_NAMES, "images of the proxy set, for list_file=")
    assert read_list(str(tmp_path / "list.txt"), ODD_NAMES[::-1]) == list(range(len(ODD_NAMES)))[::-1]
    first_first = sorted(ODD_NAMES, key=lambda name: not name.startswith("#"))
    write_list(tmp_path / "list.txt", first_first, "of a test")
    assert [ODD_NAMES[i] for i in read_list(str(tmp_path / "list.txt"), ODD_NAMES)] == first_first


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    names=st.lists(st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name), min_size=1, unique=True)
)
def test_lists_of_any_names_come_back(names: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    decoded = [os.fsdecode(name) for name in names]
    path = tmp_path_factory.getbasetemp() / "any.txt"
    write_list(path, decoded, "of a test")
    assert read_list(str(path), decoded) == list(range(len(decoded)))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(content=st.binary(max_size=60))
def test_lists_of_any_bytes_are_read_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.txt"
    path.write_bytes(content)
    with suppress(DataError):  # and nothing else
        assert set(read_list(str(path), ["a", "b", "#c"])) <= {0, 1, 2}


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfa.jpg\nb.jpg\n",
        b"a.jpg\r\nb.jpg\r\n",
        b"a.jpg\nb.jpg",
        b"# a comment\n#another\na.jpg\n\nb.jpg\n\n",
        b"\xef\xbb\xbf# a comment\r\na.jpg\r\nb.jpg",
    ],
    ids=["byte order mark", "CRLF", "no newline at the end", "comments", "all of it"],
)
def test_lists_written_by_editors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    assert read_list(str(tmp_path / "list.txt"), ["b.jpg", "a.jpg"]) == [1, 0]


def test_a_first_image_that_begins_with_a_hash_is_not_a_comment(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("#1.jpg\na.jpg\n")
    assert read_list(str(tmp_path / "list.txt"), ["a.jpg", "#1.jpg"]) == [1, 0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a.jpg\n".encode("utf-16"), "not a text file in UTF-8 .*: save it as UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is not a text file"),
        (b"", "lists no images"),
        (b"# nothing\n", "lists no images"),
        (b"a.jpg\na.jpg\n", "lists images twice"),
        (b"a.jpg\n../b.jpg\n", r"1 of the 2 images .*'\.\./b\.jpg'; names must be relative"),
        (b"a.jpg \n", r"'a\.jpg '"),
    ],
)
def test_lists_that_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"dataset\.list_file: .*{words}"):
        read_list(str(tmp_path / "list.txt"), ["a.jpg", "b.jpg"])


def test_a_run_takes_up_its_own_proxy_set_txt(tmp_path: Path) -> None:
    names = [name for name in ODD_NAMES if name.endswith(".jpg")]
    for name in names:
        picture(tmp_path / "set/class" / name)
    part = ImageFolder(str(tmp_path / "set"), images_per_class=0.6)
    (chosen,) = part.chosen().values()
    write_list(tmp_path / "proxy_set.txt", chosen, f"{len(chosen)} images of the proxy set, for list_file=")
    assert ImageFolder(str(tmp_path / "set"), list_file=str(tmp_path / "proxy_set.txt")).names() == part.names()


def test_official_lists_with_a_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(b"\xef\xbb\xbfa.jpg 1\r\nb.jpg 2\r\n")
    rows: list[Any] = [row.fields for row in read_rows(tmp_path / "train.txt", 2)]
    assert rows == [["a.jpg", "1"], ["b.jpg", "2"]]
