"""In-context segmentation on small scenes: scores against a naive version, seeds, masks that are refused, resuming."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from protocol_runs import eval_context

from proteus.evaluation.protocols import DenseKNN, ProtocolResult
from proteus.evaluation.protocols import dense_knn as module
from proteus.structures import DataError
from proteus.visualization.segmentation import draw_examples

SIDE = 64  # 4 x 4 patches of 16 px
PIPELINE: list[dict[str, Any]] = [
    {"type": "LoadImage"},
    {"type": "ResizeSquare", "scale": SIDE},
    {"type": "ToTensor"},
    {"type": "PackInputs"},
]
COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [200, 200, 40]])
SETS: dict[str, dict[str, Any]] = {"scenes": {"type": "MaskFolders", "data_root": "scenes"}}


def write_scenes(root: Path, train: int = 6, val: int = 3) -> None:
    """Noisy, tinted quadrants of four classes in images of different sizes, with a rim that is ignored."""
    generator = np.random.default_rng(0)
    for part, count in (("train", train), ("val", val)):
        for folder in ("images", "annotations"):
            (root / folder / part).mkdir(parents=True)
        for number in range(count):
            # Even: no pixel lies between two classes, where rounding would decide.
            height, width = 50 + 8 * number, 90 - 12 * number
            order = generator.permutation(4)
            rows, columns = np.arange(height) * 2 // height, np.arange(width) * 2 // width
            quadrants = rows[:, None] * 2 + columns
            mask = order[quadrants].astype(np.uint8)
            tints = generator.normal(0, 80, (4, 3))[quadrants]  # some quadrants look like another class
            image = COLOURS[mask] + tints + generator.normal(0, 30, (height, width, 3))
            image = np.clip(image, 0, 255).astype(np.uint8)
            mask[:4] = 255
            Image.fromarray(image).save(root / f"images/{part}/{number}.png")
            Image.fromarray(mask).save(root / f"annotations/{part}/{number}.png")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data/scenes``, which tests only read."""
    folder = tmp_path_factory.mktemp("dense_knn")
    write_scenes(folder / "data/scenes")
    return folder


@pytest.fixture
def own(scenes: Path, tmp_path: Path) -> Path:
    shutil.copytree(scenes / "data", tmp_path / "data")
    return tmp_path


def run(place: Path, sets: Any = None, **options: Any) -> ProtocolResult:
    context = eval_context(place, img_size=SIDE)
    context.draw = draw_examples
    protocol = DenseKNN(sets=sets or SETS, pipeline=PIPELINE, **{"k": 5, **options})
    return protocol.run(context)


def features_of(place: Path, title: str) -> np.ndarray:
    (table,) = (place / "cache").glob(f"scenes-{title}-patches-*")
    return np.load(table / "features.npy")


def test_the_score_equals_a_naive_version(own: Path) -> None:
    result = run(own, memory_size=60)
    row = result.rows["scenes"]
    assert (row["classes"], row["train / val images"], row["memory"]) == ("4 (found)", "6 / 3", "60 patches")
    rows, queries = features_of(own, "memory").reshape(60, -1).astype(np.float64), features_of(own, "queries")
    memory, labels = rows[:, :-4] / np.linalg.norm(rows[:, :-4], axis=1, keepdims=True), rows[:, -4:]
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
    hits, union = np.zeros(4), np.zeros(4)
    for number, tokens in enumerate(queries.astype(np.float64)):
        cosines = tokens / np.linalg.norm(tokens, axis=1, keepdims=True) @ memory.T
        nearest = np.argsort(-cosines, axis=1)[:, :5]
        weights = np.exp(np.take_along_axis(cosines, nearest, 1) / 0.02)
        shares = np.einsum("qk,qkc->qc", weights / weights.sum(1, keepdims=True), labels[nearest])
        truth = np.array(Image.open(own / f"data/scenes/annotations/val/{number}.png"))
        maps = torch.from_numpy(shares.T.reshape(1, 4, 4, 4))
        predicted = torch.nn.functional.interpolate(maps, size=truth.shape, mode="bilinear")[0].argmax(0).numpy()
        for label in range(4):
            both = (truth == label, (predicted == label) & (truth != 255))
            hits[label] += (both[0] & both[1]).sum()
            union[label] += (both[0] | both[1]).sum()
    assert row["mIoU"] == pytest.approx(100 * (hits / union).mean(), abs=1e-3)
    assert 10 < row["mIoU"] < 100
    picture = Image.open(own / "out" / result.pictures[0])
    assert picture.height > 3 * 50


def test_results_are_kept_and_seeds_change_the_memory(own: Path) -> None:
    first = run(own, memory_size=24).rows
    shutil.rmtree(own / "cache")
    assert run(own, memory_size=24).rows == first  # from the stored result, without features
    assert not (own / "cache").exists()
    shutil.rmtree(own / "out")
    assert run(own, memory_size=24).rows == first
    other = run(own, memory_size=24, seed=1).rows
    assert first["scenes"]["mIoU"] != other["scenes"]["mIoU"]
    tables = [np.load(table / "features.npy") for table in (own / "cache").glob("scenes-memory-*")]
    assert len(tables) == 2
    assert not np.array_equal(*tables)


def test_an_interrupted_extraction_resumes(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "transfer_labels", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(own)
    before = {path: path.stat().st_mtime_ns for path in (own / "cache").rglob("features.npy")}
    assert len(before) == 2
    assert run(own).rows["scenes"]["mIoU"] > 0
    assert {path: path.stat().st_mtime_ns for path in (own / "cache").rglob("features.npy")} == before
    # A changed mask changes the memory; images alone are the queries.
    mask = own / "data/scenes/annotations/train/0.png"
    Image.fromarray(np.array(Image.open(mask))[::-1].copy()).save(mask)
    run(own)
    assert len(list((own / "cache").rglob("features.npy"))) == 2
    changed = {path for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert ["memory" in str(path) for path in changed] == [True]


def test_labels_can_be_ignored_or_start_at_one(own: Path) -> None:
    root = own / "data/scenes/annotations"
    plain = run(own).rows["scenes"]
    for path in root.rglob("*.png"):
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask == 255, 0, mask + 1).astype(np.uint8)).save(path)
    shifted = run(own, {"scenes": {**SETS["scenes"], "reduce_zero_label": True}}).rows["scenes"]
    assert shifted == plain
    for path in root.rglob("*.png"):
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask == 0, 77, mask - 1).astype(np.uint8)).save(path)
    other = run(own, ignore_index=77, num_classes=4).rows["scenes"]
    assert other == {**plain, "classes": 4}


def test_a_class_without_training_pixels_is_never_predicted(own: Path) -> None:
    for path in (own / "data/scenes/annotations/train").iterdir():
        mask = np.array(Image.open(path))
        mask[mask == 3] = 255
        Image.fromarray(mask).save(path)
    row = run(own, num_classes=6).rows["scenes"]
    # Of the six classes two are in no mask and left out; class 3 counts with 0.
    assert row["classes"] == 6
    assert 0 < row["mIoU"] <= 75
    with_less = run(own, {"scenes": {**SETS["scenes"], "ignore_index": [3, 2]}}).rows["scenes"]
    assert with_less["classes"] == "2 (found)"


def test_a_small_memory_draws_images(scenes: Path) -> None:
    assert run(scenes, memory_size=4, k=4).rows["scenes"]["memory"] == "4 patches"
    failed = run(scenes, memory_size=4, k=5).failed["scenes"]
    assert failed == ("scenes: 4 labelled patches in the memory, fewer than protocol.k=5: write at most 4 neighbours")


def _save(path: Path, mask: np.ndarray) -> None:
    Image.fromarray(mask.astype(np.uint8)).save(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda root: _save(root / "annotations/val/0.png", np.full((50, 90), 9)),
            "val/0.png: label 9 in a mask of 4 .* with protocol.ignore_index=9",
        ),
        (lambda root: (root / "annotations/val/0.png").unlink(), "val/0.png: its mask .* is missing"),
        (lambda root: (root / "images/train/0.png").unlink(), "train/0.png: the image of this mask is missing"),
        (lambda root: _save(root / "annotations/train/0.png", np.zeros((9, 9))), "the mask is 9x9 px"),
        (lambda root: shutil.rmtree(root / "annotations/train"), "no folder .*annotations/train; expected images"),
        (lambda root: shutil.rmtree(root / "images/val"), "no folder .*images/val; expected images"),
        (
            lambda root: [_save(path, np.full(np.array(Image.open(path)).shape, 255)) for path in root.glob("a*/*/*")],
            "0 labelled patches",
        ),
    ],
    ids=["label", "no mask", "no image", "size", "no masks", "no validation", "all ignored"],
)
def test_a_set_that_does_not_fit_fails_by_name(own: Path, change: Callable[[Path], Any], words: str) -> None:
    change(own / "data/scenes")
    result = run(own, num_classes=4)
    assert not result.rows
    with pytest.raises(ValueError, match=words):
        raise ValueError(result.failed["scenes"])


def test_masks_without_or_with_one_class_are_refused(own: Path) -> None:
    for path in (own / "data/scenes/annotations").rglob("*.png"):
        mask = np.array(Image.open(path))
        _save(path, np.where(mask == 255, 255, 0))
    assert "the masks of" in (failed := run(own).failed["scenes"])
    assert "have one class, 0; mIoU needs two or more" in failed
    for path in (own / "data/scenes/annotations").rglob("*.png"):
        _save(path, np.full(np.array(Image.open(path)).shape, 255))
    assert "every pixel of every mask is ignored" in run(own).failed["scenes"]


def test_a_labelled_folder_is_refused(scenes: Path) -> None:
    with pytest.raises(DataError, match="write type='MaskFolders' for folders of images and masks"):
        run(scenes, {"scenes": {"type": "ClassFolders", "data_root": "scenes"}})


@pytest.mark.parametrize(
    "option",
    [
        *({"k": value} for value in (0, 2.5, True, None)),
        *({"temperature": value} for value in (0, -1, float("inf"), "0.1")),
        {"memory_size": 0},
        {"seed": -1},
        {"num_classes": 1},
        {"ignore_index": "255"},
        {"ignore_index": [2.5]},
        {"pipeline": [{"type": "LoadImage"}, {"type": "ToTensor"}, {"type": "PackInputs"}]},
    ],
    ids=str,
)
def test_invalid_options_raise(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"protocol\.{next(iter(option))}"):
        DenseKNN(**{"sets": SETS, "pipeline": PIPELINE, **option})
