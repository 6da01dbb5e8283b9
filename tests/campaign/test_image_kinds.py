"""Every kind of image file through every loader: the pixels are those worked out by hand, or the file is refused."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_kinds import COLOURS, SIDE, Kind, exif, kinds, refused, saved, squares, turned
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image

from proteus.apis import infer as inference
from proteus.apis.predictors import Classifier
from proteus.datasets import (
    CorruptImageError,
    ImageFolder,
    LoadImage,
    LoadRandomResizedCrop,
    RandomResizedCrop,
    WebShards,
    seeded,
)
from proteus.datasets.fine_grained import ClassFolders, ParquetSet
from proteus.datasets.shards.packing import pack
from proteus.datasets.transforms import jpeg
from proteus.utils.images import open_rgb, rgb_array, upright_size

KINDS = kinds()
REFUSED = refused()
ROOT = Path(__file__).parents[2]
each_kind = pytest.mark.parametrize("name", KINDS)
PACK = [{"type": "proteus.ToTensor"}, {"type": "proteus.PackInputs"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All kinds as one class of a set with ``train`` and ``test``."""
    root = tmp_path_factory.mktemp("kinds")
    for name, kind in KINDS.items():
        for split in ("train", "test"):
            path = root / split / "class" / f"{name}.{kind.ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(kind.content)
    return root


def path_of(folder: Path, name: str) -> Path:
    return folder / "train/class" / f"{name}.{KINDS[name].ending}"


def check(kind: Kind, found: Any, tolerance: int = 0) -> None:
    found = np.asarray(found)
    assert found.dtype == np.uint8
    assert found.shape == (SIDE, SIDE, 3)
    assert np.abs(found.astype(int) - kind.pixels).max() <= kind.tolerance + tolerance


def check_middles(kind: Kind, found: Any, tolerance: int = 6) -> None:
    """Compare the middles of the squares, where resizing mixes little."""
    found = np.asarray(found).astype(int)
    step = found.shape[0] // 4
    for square, (row, column) in zip(kind.squares, ((1, 1), (1, 3), (3, 1), (3, 3)), strict=True):
        assert np.abs(found[row * step - step // 2, column * step - step // 2] - square).max() <= tolerance


@each_kind
def test_load_image_from_a_file_and_from_bytes(folder: Path, name: str) -> None:
    kind, path = KINDS[name], path_of(folder, name)
    check(kind, LoadImage()({"img_path": str(path)})["img"])
    image = LoadImage()({"img_path": "a", "img_bytes": kind.content})["img"]
    check(kind, image)
    assert (image.mode, image.info, upright_size(path)) == ("RGB", {}, (SIDE, SIDE))


@each_kind
def test_short_side(name: str) -> None:
    """Alpha is dropped and 16 bits are scaled before any resizing."""
    kind = KINDS[name]
    check(kind, LoadImage(short_side=SIDE)({"img_path": "a", "img_bytes": kind.content})["img"])
    reduced = LoadImage(short_side=8)({"img_path": "a", "img_bytes": kind.content})["img"]
    assert reduced.size == (8, 8)
    check_middles(kind, reduced, 14)


@each_kind
@pytest.mark.parametrize("fast", [True, False], ids=["simplejpeg", "pillow"])
def test_training_crops(name: str, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        monkeypatch.setattr(jpeg, "simplejpeg", None)
    load = LoadRandomResizedCrop(SIDE, crop_ratio_range=(1, 1), aspect_ratio_range=(1, 1))
    check(KINDS[name], load({"img_path": "a", "img_bytes": KINDS[name].content})["img"])


def test_proxy_sets_and_evaluation_sets(folder: Path) -> None:
    steps = [{"type": "proteus.LoadImage"}, *PACK]
    proxy = ImageFolder(str(folder / "train"), steps)
    evaluated = ClassFolders(str(folder), "test", steps)
    names = [Path(name).stem for name in proxy.names()]
    assert len(names) == len(evaluated) == len(KINDS)
    for position, name in enumerate(names):
        for data in (proxy, evaluated):
            check(KINDS[name], data[position]["inputs"].permute(1, 2, 0))


@pytest.mark.parametrize("short_side", [None, SIDE, 8])
def test_shards(folder: Path, tmp_path: Path, short_side: int | None) -> None:
    """What goes in byte for byte keeps its EXIF; what is reduced is stored upright."""
    pytest.importorskip("webdataset")
    index = pack(folder / "train", tmp_path / "shards", short_side, quality=95, report=lambda _: None)
    assert index.left_out == {}
    shards = WebShards(str(tmp_path / "shards"), [{"type": "proteus.LoadImage"}, *PACK])
    names = [Path(name).stem for name in ImageFolder(str(folder / "train")).names()]
    assert len(shards) == len(names)
    for position, name in enumerate(names):
        pixels = shards[position]["inputs"].permute(1, 2, 0)
        if short_side == 8:
            assert pixels.shape == (8, 8, 3)
            check_middles(KINDS[name], pixels, 40)  # JPEG mixes colours of neighbours
        else:
            check(KINDS[name], pixels)


@functools.cache
def config_steps(name: str, count: int) -> Compose:
    """The first steps of a data set config's test pipeline."""
    return Compose(Config.fromfile(ROOT / "configs/_base_/datasets" / name).test_pipeline[:count])


@each_kind
def test_the_ade20k_configs_pipeline(folder: Path, name: str) -> None:
    pytest.importorskip("mmseg")
    found = config_steps("ade20k_518.py", 1)({"img_path": str(path_of(folder, name))})
    check(KINDS[name], found["img"][..., ::-1])
    assert found["img_shape"] == found["ori_shape"] == (SIDE, SIDE)


@each_kind
def test_the_depth_configs_pipeline(folder: Path, name: str, tmp_path: Path) -> None:
    init_default_scope("proteus")
    Image.fromarray(squares((1000, 2000, 3000, 65535), np.uint16)).save(tmp_path / "depth.png")
    files = {"img_path": str(path_of(folder, name)), "depth_path": str(tmp_path / "depth.png"), "depth_scale": 1000.0}
    found = config_steps("nyu_518.py", 2)(files)
    check(KINDS[name], found["img"])
    assert found["depth"][::8, ::8].tolist() == [[1.0, 2.0], [3.0, np.float32(65.535)]]


def test_inference(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class Recorder(Classifier):
        def __init__(self) -> None:
            self.classes = None

        def predict(self, image: Image.Image, name: str) -> np.ndarray:
            seen[Path(name).stem] = np.asarray(image)
            return np.ones(1, np.float32)

    monkeypatch.setattr(inference, "build_predictor", lambda *_: Recorder())
    assert inference.infer(ConfigDict(), "none", folder / "train", tmp_path) == []
    assert seen.keys() == KINDS.keys()
    for name, pixels in seen.items():
        check(KINDS[name], pixels)


@pytest.mark.parametrize("name", REFUSED)
def test_kinds_without_defined_white_are_refused_by_name(tmp_path: Path, name: str) -> None:
    content, words = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    loads: list[Callable[[], Any]] = [
        lambda: LoadImage()({"img_path": str(tmp_path / name)}),
        lambda: LoadImage(short_side=4)({"img_path": str(tmp_path / name)}),
        lambda: LoadRandomResizedCrop(8)({"img_path": str(tmp_path / name)}),
        lambda: rgb_array(tmp_path / name),
    ]
    for load in loads:
        with pytest.raises(CorruptImageError, match=rf"{name} \(.*{words}"):
            load()


def test_refused_kinds_are_left_out_of_shards_by_name(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    (tmp_path / "in").mkdir()
    for name, (content, _) in REFUSED.items():
        (tmp_path / "in" / name).write_bytes(content)
    saved_image = KINDS["rgb.jpg"].content
    (tmp_path / "in/good.jpg").write_bytes(saved_image)
    index = pack(tmp_path / "in", tmp_path / "out", report=lambda _: None)
    assert sorted(index.left_out) == sorted(REFUSED)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_photographs_that_are_not_square(orientation: int) -> None:
    """The box is drawn from the upright size, and the crop is the two transforms' crop."""
    upright = Image.effect_noise((64, 40), 80).convert("RGB").resize((640, 400), Image.Resampling.BICUBIC)
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    flips = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    stored = upright if orientation == 1 else upright.transpose(flips[inverse])
    content = saved(stored, "JPEG", quality=95, subsampling=0, exif=b"Exif\0\0" + exif(orientation))
    assert np.abs(np.asarray(open_rgb(content)).astype(int) - np.asarray(upright)).mean() < 2
    assert upright_size(content) == (640, 400)
    assert open_rgb(content, short_side=100).size == (160, 100)
    for number in range(12):
        with seeded(number):
            fast = LoadRandomResizedCrop(48)({"img_path": "a", "img_bytes": content})["img"]
        with seeded(number):
            slow = np.asarray(RandomResizedCrop(48)(LoadImage()({"img_path": "a", "img_bytes": content}))["img"])
        assert np.abs(fast.astype(int) - slow).mean() < 3  # another box would differ by tens


def test_rows_of_parquet_files(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    names = list(KINDS)
    rows = [{"bytes": KINDS[name].content, "path": name} for name in names]
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        table = pyarrow.table({"image": rows, "label": [0] * len(rows)})
        parquet.write_table(table, tmp_path / f"data/{split}-00000-of-00001.parquet")
    data = ParquetSet(str(tmp_path), "test", [{"type": "proteus.LoadImage"}, *PACK], num_classes=1)
    for position, name in enumerate(names):
        check(KINDS[name], data[position]["inputs"].permute(1, 2, 0))


def test_the_orientations_by_hand() -> None:
    """A photograph taken with the camera turned: stored on its side, tag 6, upright after a quarter turn clockwise."""
    assert turned(6)[0, 0].tolist() == list(COLOURS[1])
    assert np.array_equal(np.rot90(turned(6), -1), squares(COLOURS))
    assert np.array_equal(np.rot90(turned(8), 1), squares(COLOURS))
