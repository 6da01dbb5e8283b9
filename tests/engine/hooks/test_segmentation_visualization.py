"""Pictures of a tested segmentor: what is in them, and that none is lost."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from PIL import Image

from proteus.engine.hooks import SegmentationVisualizationHook
from proteus.registry import DATASETS, HOOKS

pytest.importorskip("mmseg")
PALETTE = [[250, 0, 0], [0, 250, 0], [0, 0, 250]]
TITLE = 18  # rows above the panels


@pytest.fixture
def dataset(tmp_path: Path) -> Any:
    """Three images of 40 x 24 px of one grey, two of them called ``x``."""
    for name in ("a/x", "b/x", "y"):
        for folder, suffix, level in (("images", "jpg", 100), ("masks", "png", 1)):
            path = tmp_path / folder / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (40, 24), level).convert("RGB" if suffix == "jpg" else "L").save(path)
    init_default_scope("proteus")
    inner = {
        "type": "mmseg.BaseSegDataset",
        "data_root": str(tmp_path),
        "data_prefix": {"img_path": "images", "seg_map_path": "masks"},
        "metainfo": {"classes": ("sea", "sky", "sun"), "palette": PALETTE},
        "pipeline": [],
    }
    return DATASETS.build({"type": "SegmentationSet", "dataset": inner})


def sample(path: str, prediction: np.ndarray, truth: np.ndarray | None) -> Any:
    from mmseg.structures import SegDataSample

    found = SegDataSample(metainfo={"img_path": path})
    found.pred_sem_seg = PixelData(data=torch.from_numpy(prediction)[None])
    if truth is not None:
        found.gt_sem_seg = PixelData(data=torch.from_numpy(truth)[None])
    return found


def show(hook: SegmentationVisualizationHook, dataset: Any, samples: list[Any]) -> None:
    runner: Any = SimpleNamespace(test_loop=SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset)))
    hook.after_test_iter(runner, 0, None, samples)


def paths(dataset: Any) -> list[str]:
    return sorted(dataset.inner.get_data_info(index)["img_path"] for index in range(len(dataset)))


def test_panels_worked_by_hand(dataset: Any, tmp_path: Path) -> None:
    hook = HOOKS.build(
        {"type": "SegmentationVisualizationHook", "out_dir": str(tmp_path / "not/yet/there"), "alpha": 0.25}
    )
    prediction, truth = np.zeros((24, 40), np.int64), np.ones((24, 40), np.int64)
    prediction[:, 20:], truth[12:] = 2, 255
    path = paths(dataset)[-1]
    show(hook, dataset, [sample(path, prediction, truth)])
    sheet = np.asarray(Image.open(tmp_path / "not/yet/there/y.png"))
    image, predicted, true = (sheet[TITLE : TITLE + 24, left : left + 40].astype(int) for left in (0, 48, 96))
    assert np.abs(image - 100).max() <= 1
    # Three quarters of the grey and a quarter of the colour.
    assert np.abs(predicted[:, :20] - (137.5, 75, 75)).max() <= 1
    assert np.abs(predicted[:, 20:] - (75, 75, 137.5)).max() <= 1
    assert np.abs(true[:12] - (75, 137.5, 75)).max() <= 1
    assert np.abs(true[12:] - 35).max() <= 1  # no class: the image, darkened


def test_images_of_one_name_do_not_overwrite_each_other(dataset: Any, tmp_path: Path) -> None:
    labels = [np.full((24, 40), label, np.int64) for label in range(3)]
    hook = SegmentationVisualizationHook(tmp_path / "shown")
    show(hook, dataset, [sample(path, label, None) for path, label in zip(paths(dataset), labels, strict=True)])
    found = {str(path.relative_to(tmp_path / "shown")) for path in (tmp_path / "shown").rglob("*.png")}
    assert found == {"a/x.png", "b/x.png", "y.png"}
    for name, colour in (("a/x", 0), ("b/x", 1), ("y", 2)):
        predicted = np.asarray(Image.open(tmp_path / f"shown/{name}.png"))[TITLE : TITLE + 24, 48:88]
        assert predicted.mean((0, 1)).argmax() == colour


def test_without_ground_truth_there_is_no_panel_of_it(dataset: Any, tmp_path: Path) -> None:
    labels = np.zeros((24, 40), np.int64)
    widths = []
    for truth in (labels, None):
        show(SegmentationVisualizationHook(tmp_path), dataset, [sample(paths(dataset)[-1], labels, truth)])
        widths.append(Image.open(tmp_path / "y.png").width)
    assert widths == [3 * 40 + 2 * 8, 2 * 40 + 8]


def test_an_image_from_elsewhere_keeps_its_name(dataset: Any, tmp_path: Path) -> None:
    Image.new("RGB", (40, 24)).save(tmp_path / "other.png")
    show(
        SegmentationVisualizationHook(tmp_path / "s"),
        dataset,
        [sample(str(tmp_path / "other.png"), np.ones((24, 40), int), None)],
    )
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["other.png"]


def test_a_camera_that_was_turned(dataset: Any, tmp_path: Path) -> None:
    """The prediction is of the picture as it is to be seen."""
    pixels = Image.new("RGB", (24, 40))
    pixels.paste((200, 200, 200), (0, 0, 12, 40))
    exif = pixels.getexif()
    exif[0x0112] = 6
    pixels.save(tmp_path / "turned.png", exif=exif)
    show(
        SegmentationVisualizationHook(tmp_path / "s"),
        dataset,
        [sample(str(tmp_path / "turned.png"), np.ones((24, 40), int), None)],
    )
    image = np.asarray(Image.open(tmp_path / "s/turned.png"))[TITLE : TITLE + 24, :40]
    assert image[:12].min() == 200
    assert image[12:].max() == 0
