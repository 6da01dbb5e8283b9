from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.dataset import Compose
from PIL import Image
from runs import write_images
from torch.utils.data import Subset

from proteus.datasets import ConcatProxySet, CorruptImageError, FixedViews, ImageFolder, LabelledFolder, UniformMask
from proteus.evaluation.online.probe_images import (
    LabelledImages,
    count_shared_files,
    evenly_spaced_indices,
    load_probe_images,
)
from proteus.models.distillers.data_preprocessor import as_floats

PIPELINE = Compose([{"type": f"proteus.{name}"} for name in ("LoadImage", "ToTensor", "PackInputs")])
STEPS = [
    {"type": "proteus.LoadImage"},
    {"type": "proteus.ResizeEdge", "scale": 28},
    {"type": "proteus.CenterCrop", "crop_size": 28},
    {"type": "proteus.ToTensor"},
    {"type": "proteus.PackInputs"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", 6)


def test_exact_images_are_kept_as_bytes(folder: Path) -> None:
    dataset = ImageFolder(str(folder), STEPS)
    kept = load_probe_images(dataset, [4, 0], UniformMask(0.5, patch_size=14))
    assert kept.pixels.dtype == torch.uint8
    wanted = as_floats(torch.stack([dataset[i]["inputs"] for i in (0, 4, 0)]))
    assert torch.equal(kept.images(torch.tensor([1, 0, 1])), wanted)
    assert kept.paths == [dataset[i]["data_samples"].img_path for i in (4, 0)]
    assert kept.masks is not None
    assert kept.masks.shape == (2, 4)
    assert kept.masks.sum(1).tolist() == [2, 2]
    assert kept.labels is None


def test_random_views_repeat_and_are_kept_as_floats(folder: Path) -> None:
    steps = [
        STEPS[0],
        {"type": "proteus.RandomResizedCrop", "scale": 28},
        {"type": "proteus.ToTensor", "dtype": "float32"},
        lambda results: {**results, "img": results["img"] * torch.rand(())},
    ]
    dataset = ImageFolder(str(folder), [*steps, STEPS[4]])
    kept = load_probe_images(dataset, range(6))
    assert kept.pixels.dtype == torch.float32
    torch.rand(5)
    assert torch.equal(load_probe_images(dataset, range(6)).pixels, kept.pixels)


def test_images_of_fixed_views_are_those_of_the_set(folder: Path) -> None:
    dataset = FixedViews({"type": "proteus.ImageFolder", "data_root": str(folder), "pipeline": STEPS}, views=2)
    kept, wanted = (load_probe_images(each, range(6)) for each in (dataset, dataset.dataset))
    assert torch.equal(kept.pixels, wanted.pixels)
    assert count_shared_files(dataset, kept.paths) == 6


def test_an_unreadable_image_raises_or_is_skipped(folder: Path) -> None:
    bad = sorted(folder.rglob("*.jpg"))[1]
    bad.write_bytes(bad.read_bytes()[:300])
    dataset = ImageFolder(str(folder), STEPS)
    with pytest.raises(CorruptImageError, match=bad.name):
        load_probe_images(dataset, range(6))
    named: list[CorruptImageError] = []
    assert len(load_probe_images(dataset, range(6), on_unreadable=named.append)) == 5
    assert [str(bad) in str(error) for error in named] == [True]


def test_an_image_that_a_proxy_set_in_another_set_has_replaced_is_unreadable_too(folder: Path) -> None:
    """torch's set passes on what the proxy set puts in its place, which would count twice."""
    bad = sorted(folder.rglob("*.jpg"))[1]
    bad.write_bytes(bad.read_bytes()[:300])
    dataset = Subset(ImageFolder(str(folder), STEPS), range(6))
    with pytest.raises(CorruptImageError, match=bad.name):
        load_probe_images(dataset, range(6))
    named: list[CorruptImageError] = []
    kept = load_probe_images(dataset, range(6), on_unreadable=named.append)
    assert len(set(kept.paths)) == len(kept) == 5
    assert [str(bad) in str(error) for error in named] == [True]


def test_images_of_different_sizes_raise(folder: Path) -> None:
    Image.new("RGB", (50, 90)).save(folder / "c/tall.png")
    with pytest.raises(ValueError, match=r"tall\.png is .* after others .*crop"):
        load_probe_images(ImageFolder(str(folder), [STEPS[0], *STEPS[3:]]), range(7))


def test_evenly_spaced_indices() -> None:
    assert evenly_spaced_indices(3, 11) == [0, 5, 10]
    assert evenly_spaced_indices(5, 2) == [0, 1]
    assert evenly_spaced_indices(5, 0) == []


def test_shared_files_are_counted(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, held_out = (ImageFolder(str(folder), STEPS, split=split, held_out=0.5) for split in ("train", "held-out"))
    everything = [info["img_path"] for info in ImageFolder(str(folder)).load_data_list()]
    here = [info["img_path"] for info in held_out.load_data_list()]
    assert 0 < len(here) < 6
    assert count_shared_files(train, here) == 0
    assert count_shared_files(held_out, here) == len(here)
    assert count_shared_files(train, everything) == 6 - len(here)
    merged = ConcatProxySet({"one": train, "two": ImageFolder(str(write_images(tmp_path / "other", 2)), STEPS)}, STEPS)
    assert count_shared_files(merged, everything) == 6 - len(here)
    monkeypatch.chdir(tmp_path)
    assert count_shared_files(ImageFolder("images", STEPS), everything) == 6
    assert count_shared_files([1, 2], everything) == 0


def write_classes(root: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(root / name / f"{number:02}.png")
    return root


def test_labelled_images_are_evenly_spaced_and_skip_classes_of_one(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "set", {"a": 5, "b": 1, "c": 2, "d": 9})
    kept = LabelledImages(images_per_class=3).load(str(root), PIPELINE)
    assert kept.labels is not None
    assert kept.labels.tolist() == [0, 0, 0, 2, 2, 3, 3, 3]
    assert [Path(path).stem for path in kept.paths] == ["00", "02", "04", "00", "01", "00", "04", "08"]
    fewer = LabelledImages(classes=2).load(str(root), PIPELINE)
    assert fewer.labels is not None
    assert fewer.labels.unique().tolist() == [0, 3]


def test_the_folder_of_labelled_images(tmp_path: Path) -> None:
    years = write_classes(tmp_path / "years", {"2019": 2, "2020": 2})
    imagenet = write_classes(tmp_path / "imagenet", {"n01440764": 2, "n01443537": 2})
    default = LabelledImages()
    assert default.find_folder(LabelledFolder(data_root=str(years))) == str(years)
    assert default.find_folder(ImageFolder(str(imagenet))) == str(imagenet)
    assert default.find_folder(ImageFolder(str(years))) is None  # a year is not a class
    assert default.find_folder(None) is None
    assert LabelledImages(str(years)).find_folder(None) == str(years)


def test_invalid_labelled_images_raise(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"default_hooks\.online_eval\.knn\.data_root: .*nowhere"):
        LabelledImages(str(tmp_path / "nowhere")).find_folder(None)
    single = write_classes(tmp_path / "single", {"a": 1, "b": 3})
    with pytest.raises(ValueError, match="1 classes of two images"):
        LabelledImages().load(str(single), PIPELINE)
    Image.new("RGB", (8, 8)).save(single / "loose.png")
    with pytest.raises(ValueError, match=r"loose\.png is not in a class folder"):
        LabelledImages().load(str(single), PIPELINE)
    with pytest.raises(ValueError, match=r"knn\.ks=\(0,\)"):
        LabelledImages(ks=(0,))
    with pytest.raises(ValueError, match=r"knn\.classes=1"):
        LabelledImages(classes=1)
