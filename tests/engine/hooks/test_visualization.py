"""Pictures of tested images: contents and file names."""

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

from proteus.engine.hooks import DepthVisualizationHook, SegmentationVisualizationHook
from proteus.registry import DATASETS, HOOKS

PALETTE = [[250, 0, 0], [0, 250, 0], [0, 0, 250]]
TITLE = 18  # rows above the panels


@pytest.fixture
def dataset(tmp_path: Path) -> Any:
    """Three grey images of 40 x 24 px, two of them called ``x``."""
    pytest.importorskip("mmseg")
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
    hook.before_test(runner)
    hook.after_test_iter(runner, 0, None, samples)
    hook.after_test(runner)


def paths(dataset: Any) -> list[str]:
    return sorted(dataset.inner.get_data_info(index)["img_path"] for index in range(len(dataset)))


def test_panels_by_hand(dataset: Any, tmp_path: Path) -> None:
    hook = HOOKS.build(
        {
            "type": "SegmentationVisualizationHook",
            "draw": True,
            "out_dir": str(tmp_path / "not/yet/there"),
            "alpha": 0.25,
        }
    )
    prediction, truth = np.zeros((24, 40), np.int64), np.ones((24, 40), np.int64)
    prediction[:, 20:], truth[12:] = 2, 255
    path = paths(dataset)[-1]
    show(hook, dataset, [sample(path, prediction, truth)])
    sheet = np.asarray(Image.open(tmp_path / "not/yet/there/y.png"))
    image, predicted, true = (sheet[TITLE : TITLE + 24, left : left + 40].astype(int) for left in (0, 48, 96))
    assert np.abs(image - 100).max() <= 1
    # Three quarters grey and one quarter colour.
    assert np.abs(predicted[:, :20] - (137.5, 75, 75)).max() <= 1
    assert np.abs(predicted[:, 20:] - (75, 75, 137.5)).max() <= 1
    assert np.abs(true[:12] - (75, 137.5, 75)).max() <= 1
    assert np.abs(true[12:] - 35).max() <= 1  # unlabelled: the image, darkened


def test_images_with_equal_names_have_separate_pictures(dataset: Any, tmp_path: Path) -> None:
    labels = [np.full((24, 40), label, np.int64) for label in range(3)]
    hook = SegmentationVisualizationHook(draw=True, out_dir=tmp_path / "shown")
    show(hook, dataset, [sample(path, label, None) for path, label in zip(paths(dataset), labels, strict=True)])
    found = {str(path.relative_to(tmp_path / "shown")) for path in (tmp_path / "shown").rglob("*.png")}
    assert found == {"a/x.png", "b/x.png", "y.png"}
    for name, colour in (("a/x", 0), ("b/x", 1), ("y", 2)):
        predicted = np.asarray(Image.open(tmp_path / f"shown/{name}.png"))[TITLE : TITLE + 24, 48:88]
        assert predicted.mean((0, 1)).argmax() == colour


def test_without_ground_truth_its_panel_is_missing(dataset: Any, tmp_path: Path) -> None:
    labels = np.zeros((24, 40), np.int64)
    widths = []
    for truth in (labels, None):
        show(
            SegmentationVisualizationHook(draw=True, out_dir=tmp_path),
            dataset,
            [sample(paths(dataset)[-1], labels, truth)],
        )
        widths.append(Image.open(tmp_path / "y.png").width)
    assert widths == [3 * 40 + 2 * 8, 2 * 40 + 8]


def test_an_image_outside_the_set_keeps_its_name(dataset: Any, tmp_path: Path) -> None:
    Image.new("RGB", (40, 24)).save(tmp_path / "other.png")
    show(
        SegmentationVisualizationHook(draw=True, out_dir=tmp_path / "s"),
        dataset,
        [sample(str(tmp_path / "other.png"), np.ones((24, 40), int), None)],
    )
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["other.png"]


def test_exif_orientation_is_applied(dataset: Any, tmp_path: Path) -> None:
    """The prediction belongs to the rotated picture."""
    pixels = Image.new("RGB", (24, 40))
    pixels.paste((200, 200, 200), (0, 0, 12, 40))
    exif = pixels.getexif()
    exif[0x0112] = 6
    pixels.save(tmp_path / "turned.png", exif=exif)
    show(
        SegmentationVisualizationHook(draw=True, out_dir=tmp_path / "s"),
        dataset,
        [sample(str(tmp_path / "turned.png"), np.ones((24, 40), int), None)],
    )
    image = np.asarray(Image.open(tmp_path / "s/turned.png"))[TITLE : TITLE + 24, :40]
    assert image[:12].min() == 200
    assert image[12:].max() == 0


class Listed:
    """A data set that lists its images."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def get_data_info(self, index: int) -> dict[str, Any]:
        return {"img_path": self.paths[index]}


def draw_depth(folder: Path, paths: list[str | None], dataset: Any, interval: int = 1) -> set[str]:
    """Test images in batches of two, and return the paths of the pictures in ``folder``."""
    hook = HOOKS.build({"type": "DepthVisualizationHook", "draw": True, "out_dir": str(folder), "interval": interval})
    runner: Any = SimpleNamespace(test_loop=SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset)))
    hook.before_test(runner)
    depth = torch.rand(6, 8)
    for start in range(0, len(paths), 2):
        outputs = [{"depth": depth, "gt_depth": depth, "img_path": path} for path in paths[start : start + 2]]
        hook.after_test_iter(runner, start, {"inputs": [torch.rand(3, 12, 16)] * len(outputs)}, outputs)
    return {str(path.relative_to(folder)) for path in folder.rglob("*.png")}


def test_pictures_of_scenes_have_a_folder_per_scene(tmp_path: Path) -> None:
    paths = [f"/data/{scene}/rgb_00001.jpg" for scene in ("k", "l", "m")]
    assert draw_depth(tmp_path / "a/b", paths, Listed(paths), interval=2) == {"k/rgb_00001.png", "m/rgb_00001.png"}


def test_no_picture_overwrites_another(tmp_path: Path) -> None:
    # Equal names in equal folders; names that differ in their suffix, or in the position of a "_".
    paths = ["/d/one/rgb/1.jpg", "/d/two/rgb/1.jpg", "/d/one/a.jpg", "/d/one/a.png", "/d/x/y_z.jpg", "/d/x_y/z.jpg"]
    names = {"one/rgb/1.png", "two/rgb/1.png", "one/a.jpg.png", "one/a.png.png", "x/y_z.png", "x_y/z.png"}
    assert draw_depth(tmp_path / "listed", paths, Listed(paths)) == names
    assert len(draw_depth(tmp_path / "unlisted", paths, [None] * 6)) == 6


def test_images_without_a_path_are_numbered_across_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in range(2):
        monkeypatch.setattr("proteus.engine.hooks.visualization.get_dist_info", lambda rank=rank: (rank, 2))
        found = draw_depth(tmp_path, [None] * 3, [None] * 6)
    assert found == {f"{number:06}.png" for number in range(6)}


def test_an_interval_below_one_raises() -> None:
    with pytest.raises(ValueError, match=r"DepthVisualizationHook\.interval=0"):
        DepthVisualizationHook(interval=0)


def test_nothing_is_drawn_without_draw(tmp_path: Path) -> None:
    hook = DepthVisualizationHook(out_dir=tmp_path / "shown")
    runner: Any = SimpleNamespace()
    hook.before_test(runner)
    hook.after_test_iter(runner, 0, {"inputs": []}, [{}])
    hook.after_test(runner)
    assert not (tmp_path / "shown").exists()
    with pytest.raises(ValueError, match=r"DepthVisualizationHook\.out_dir=None"):
        DepthVisualizationHook(draw=True)
