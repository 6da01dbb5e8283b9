from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from runs import write_images

from proteus.datasets import ConcatProxySet, CorruptImageError, ImageFolder, UniformMask
from proteus.evaluation.online.probe_images import load_probe_images, number_in, spread
from proteus.models.distillers.data_preprocessor import as_floats

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


def test_bytes_that_lose_nothing(folder: Path) -> None:
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


def test_random_views_are_the_same_each_time_and_no_bytes(folder: Path) -> None:
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


def test_an_unreadable_image_is_named(folder: Path) -> None:
    bad = sorted(folder.rglob("*.jpg"))[1]
    bad.write_bytes(bad.read_bytes()[:300])
    dataset = ImageFolder(str(folder), STEPS)
    with pytest.raises(CorruptImageError, match=bad.name):
        load_probe_images(dataset, range(6))
    named: list[CorruptImageError] = []
    assert len(load_probe_images(dataset, range(6), unreadable=named.append)) == 5
    assert [str(bad) in str(error) for error in named] == [True]


def test_images_of_different_sizes_are_refused(folder: Path) -> None:
    Image.new("RGB", (50, 90)).save(folder / "c/tall.png")
    with pytest.raises(ValueError, match=r"tall\.png is .* after others .*crop"):
        load_probe_images(ImageFolder(str(folder), [STEPS[0], *STEPS[3:]]), range(7))


def test_spread() -> None:
    assert spread(3, 11) == [0, 5, 10]
    assert spread(5, 2) == [0, 1]
    assert spread(5, 0) == []


def test_images_that_another_set_holds(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, held_out = (ImageFolder(str(folder), STEPS, split=split, held_out=0.5) for split in ("train", "held-out"))
    everything = [info["img_path"] for info in ImageFolder(str(folder)).load_data_list()]
    here = [info["img_path"] for info in held_out.load_data_list()]
    assert 0 < len(here) < 6
    assert number_in(train, here) == 0
    assert number_in(held_out, here) == len(here)
    assert number_in(train, everything) == 6 - len(here)
    merged = ConcatProxySet({"one": train, "two": ImageFolder(str(write_images(tmp_path / "other", 2)), STEPS)}, STEPS)
    assert number_in(merged, everything) == 6 - len(here)
    monkeypatch.chdir(tmp_path)
    assert number_in(ImageFolder("images", STEPS), everything) == 6
    assert number_in([1, 2], everything) == 0
