"""Damaged files: the right pixels, or an error that names the file, and never another exception."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_kinds import kinds
from PIL import Image

from proteus.datasets import CorruptImageError, LoadImage, LoadRandomResizedCrop, WebShards, seeded
from proteus.datasets.proxy import folder_index
from proteus.datasets.segmentation.check_labels import read_mask
from proteus.datasets.shards.index import read_index
from proteus.datasets.shards.index_file import INDEX, load_index
from proteus.datasets.shards.packing import pack
from proteus.datasets.transforms.depth_loading import read_depth
from proteus.structures import DataError, UserError
from proteus.utils.images import open_rgb, upright_size

KINDS = kinds()
STARTS = (b"", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"II*\0", b"GIF89a", b"RIFF")
FUZZ = settings(max_examples=250, deadline=None, derandomize=True)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """The name of a kind, and its file cut short, with bytes changed, left out or put in."""
    name = draw(st.sampled_from(sorted(KINDS)))
    content = bytearray(KINDS[name].content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        how = draw(st.sampled_from(["change", "change", "change", "cut", "insert", "drop", "zeros"]))
        if how == "change" and content:
            content[place] = draw(st.integers(0, 255))
        elif how == "cut":
            del content[place:]
        elif how == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=8))
        elif how == "drop":
            del content[place : place + draw(st.integers(1, 8))]
        else:
            content[place : place + 8] = bytes(8)
    return name, bytes(content)


@pytest.fixture(autouse=True)
def small_pictures_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed width must not cost gigabytes."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)


@pytest.mark.filterwarnings("ignore")
@FUZZ
@given(file=damaged())
def test_loaders_give_rgb_or_name_the_file(file: tuple[str, bytes]) -> None:
    _, content = file
    try:
        image = LoadImage()({"img_path": "the/file", "img_bytes": content})["img"]
    except CorruptImageError as error:
        assert str(error).startswith("the/file (")  # noqa: PT017
        image = None
    else:
        assert image.mode == "RGB"
        assert image.size == upright_size(content)
    try:
        with seeded(0):
            crop = LoadRandomResizedCrop(8, crop_ratio_range=(1, 1), aspect_ratio_range=(1, 1))(
                {"img_path": "the/file", "img_bytes": content}
            )
    except CorruptImageError:
        assert image is None
    else:
        assert crop["img"].shape == (8, 8, 3)


@pytest.mark.filterwarnings("ignore")
@FUZZ
@given(
    content=st.binary(max_size=200), start=st.sampled_from([b"", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"II*\0"])
)
def test_any_bytes(content: bytes, start: bytes) -> None:
    for read in (open_rgb, upright_size):
        with pytest.raises(CorruptImageError, match=r"^the/file \("):
            read(start + content, "the/file")


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=100, deadline=None, derandomize=True)
@given(cut=st.floats(0, 0.98), name=st.sampled_from(sorted(KINDS)))
def test_files_that_are_cut_short_never_give_other_pixels(name: str, cut: float) -> None:
    """What is decoded of a truncated file is whole: only bytes behind the pixels were missing."""
    kind = KINDS[name]
    content = kind.content[: int(cut * len(kind.content))]
    try:
        found = np.asarray(open_rgb(content, name)).astype(int)
    except CorruptImageError:
        return
    turned = any(np.abs(found - turn(kind.pixels.astype(int))).max() <= kind.tolerance for turn in _TURNS)
    assert turned  # an orientation behind the pixels may be lost with the end of the file


_TURNS = [
    lambda pixels, turns=turns, flip=flip: np.rot90(pixels[:, ::-1] if flip else pixels, turns)
    for turns in range(4)
    for flip in (False, True)
]


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None, derandomize=True)
@given(file=damaged())
def test_masks_and_depth_maps_are_integers_or_refused(
    file: tuple[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "map.png"
    path.write_bytes(file[1])
    readers: list[Any] = [read_mask, read_depth]
    for read in readers:
        try:
            found = read(str(path))
        except UserError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:
            assert found.ndim == 2
            assert np.issubdtype(found.dtype, np.integer)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards with their index."""
    pytest.importorskip("webdataset")
    root = tmp_path_factory.mktemp("set")
    for number in range(6):
        (root / "in").mkdir(exist_ok=True)
        Image.new("L", (8, 8), number).save(root / f"in/{number}.png")
    pack(root / "in", root / "out", per_shard=3, report=lambda _: None)
    return root / "out"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_shard_indexes(shards: Path, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A changed byte may move an offset; the image is then corrupt, and nothing else breaks."""
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    shutil.copytree(shards, folder, dirs_exist_ok=True)
    content = bytearray((folder / INDEX).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.sampled_from(b'{}[]",:0123456789-.eantl\xff\x00'))
    (folder / INDEX).write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2]))])
    try:
        read = WebShards(str(folder), [{"type": "proteus.LoadImage"}])
    except (UserError, FileNotFoundError) as error:
        assert str(folder) in str(error)  # noqa: PT017
        return
    for position in range(len(read)):
        try:
            read.read(position, 0)
        except CorruptImageError as error:
            assert str(folder) in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "change",
    [
        lambda index: [],
        lambda index: None,
        lambda index: {**index, "version": 99},
        lambda index: {"version": 1},
        lambda index: {**index, "index": {"shards": 3, "settings": {}, "left_out": {}}},
        lambda index: {
            **index,
            "index": {**index["index"], "shards": [{"name": "../../etc/passwd", "bytes": 1, "images": []}]},
        },
        lambda index: _with_shards(index, index["index"]["shards"] * 2),
        lambda index: _with_shards(index, [{"nome": "00000.tar"}]),
        lambda index: {**index, "index": {**index["index"], "settings": None}},
    ],
)
def test_shard_indexes_of_another_form_are_refused_by_name(shards: Path, tmp_path: Path, change: Any) -> None:
    shutil.copytree(shards, tmp_path / "s")
    index = json.loads((shards / INDEX).read_text())
    (tmp_path / "s" / INDEX).write_text(json.dumps(change(index)))
    for read in (read_index, lambda folder: load_index(folder / INDEX)):
        with pytest.raises(DataError, match=rf"{INDEX} (is damaged|was written by another version).*; remove it"):
            read(tmp_path / "s")


def _with_shards(index: dict[str, Any], shards: list[Any]) -> dict[str, Any]:
    return {**index, "index": {**index["index"], "shards": shards}}


@settings(max_examples=50, deadline=None, derandomize=True)
@given(data=st.data())
def test_kept_lists_of_folders_are_made_again(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp() / "listed"
    kept = root.with_name("kept")
    for name in ("a/1.png", "b/2.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_index, "_MIN_LISTING_TIME", 0.0)
        patch.setattr(folder_index, "_CLOCK_TICK", -(10**12))
        wanted = folder_index.image_names(root, (".png",), kept).tobytes()
        (path,) = kept.glob("*.npz")
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2, 0]))])
        assert folder_index.image_names(root, (".png",), kept).tobytes() == wanted
        shutil.rmtree(kept)
