from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.dataset import Compose
from PIL import Image

from proteus.datasets import ImageFolder, LabelledFolder
from proteus.evaluation.online.labelled_images import LabelledImages

PIPELINE = Compose([{"type": f"proteus.{name}"} for name in ("LoadImage", "ToTensor", "PackInputs")])


def write(root: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(root / name / f"{number:02}.png")
    return root


def test_at_even_distances_and_without_single_images(tmp_path: Path) -> None:
    root = write(tmp_path / "set", {"a": 5, "b": 1, "c": 2, "d": 9})
    kept = LabelledImages(images_per_class=3).read(str(root), PIPELINE)
    assert kept.labels is not None
    assert kept.labels.tolist() == [0, 0, 0, 2, 2, 3, 3, 3]
    assert [Path(path).stem for path in kept.paths] == ["00", "02", "04", "00", "01", "00", "04", "08"]
    fewer = LabelledImages(classes=2).read(str(root), PIPELINE)
    assert fewer.labels is not None
    assert fewer.labels.unique().tolist() == [0, 3]


def test_which_folder(tmp_path: Path) -> None:
    ours = write(tmp_path / "ours", {"2019": 2, "2020": 2})
    imagenet = write(tmp_path / "imagenet", {"n01440764": 2, "n01443537": 2})
    default = LabelledImages()
    assert default.folder(LabelledFolder(data_root=str(ours))) == str(ours)
    assert default.folder(ImageFolder(str(imagenet))) == str(imagenet)
    assert default.folder(ImageFolder(str(ours))) is None  # a year is no class
    assert default.folder(None) is None
    assert LabelledImages(str(ours)).folder(None) == str(ours)


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"default_hooks\.online_eval\.knn\.data_root: no folder .*nowhere"):
        LabelledImages(str(tmp_path / "nowhere")).folder(None)
    single = write(tmp_path / "single", {"a": 1, "b": 3})
    with pytest.raises(ValueError, match="1 classes of two images"):
        LabelledImages().read(str(single), PIPELINE)
    Image.new("RGB", (8, 8)).save(single / "loose.png")
    with pytest.raises(ValueError, match=r"loose\.png is not in a class folder"):
        LabelledImages().read(str(single), PIPELINE)
    with pytest.raises(ValueError, match=r"knn\.ks=\(0,\)"):
        LabelledImages(ks=(0,))
    with pytest.raises(ValueError, match=r"knn\.classes=1"):
        LabelledImages(classes=1)
