from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from PIL import Image
from torch.utils.data import DataLoader

from proteus.datasets import ConcatProxySet, ImageFolder, ProxySampler, SampleKey, SingleImage

STEPS = [{"type": f"proteus.{name}"} for name in ("LoadImage", "ToTensor", "PackInputs")]
RANDOM = [
    {"type": "proteus.LoadImage"},
    {"type": "proteus.RandomResizedCrop", "scale": 28},
    {"type": "proteus.ToTensor"},
    {"type": "proteus.UniformMask"},
    {"type": "proteus.PackInputs"},
]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    generator = np.random.default_rng(0)
    for name, count in {"a": 10, "b": 4, "c": 6}.items():
        (root / name).mkdir()
        for number in range(count):
            pixels = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def folder(root: Path, name: str, **more) -> dict:
    return {"type": "proteus.ImageFolder", "data_root": str(root / name), **more}


def paths(merged: ConcatProxySet, epoch: int = 0) -> Counter:
    """Count how often each image is seen in an epoch."""
    found = (merged.find(index, epoch) for index in range(len(merged)))
    infos = (member.get_data_info(position) for member, position in found)
    return Counter("/".join(Path(info["img_path"]).parts[-2:]) for info in infos)


def test_sets_are_concatenated(sets: Path) -> None:
    merged = ConcatProxySet({name: folder(sets, name) for name in "abc"}, STEPS)
    assert len(merged) == 20
    for index, wanted in {0: "a/0", 9: "a/9", 10: "b/0", 13: "b/3", 14: "c/0", 19: "c/5"}.items():
        assert merged[index]["data_samples"].metainfo == {"img_path": str(sets / f"{wanted}.png"), "corrupt": []}
        assert merged.get_data_info(index)["img_path"] == str(sets / f"{wanted}.png")


def test_repeats_in_one_epoch_and_over_several(sets: Path) -> None:
    merged = ConcatProxySet({name: folder(sets, name) for name in "abc"}, STEPS, repeats={"a": 0.3, "b": 3, "c": 1.5})
    assert len(merged) == 3 + 12 + 9
    first = paths(merged)
    assert [sum(count for path, count in first.items() if path[0] == name) for name in "abc"] == [3, 12, 9]
    assert {first[f"b/{number}.png"] for number in range(4)} == {3}
    assert Counter(first[f"c/{number}.png"] for number in range(6)) == {1: 3, 2: 3}
    assert paths(merged) == first != paths(merged, 1)
    total = sum((paths(merged, epoch) for epoch in range(10)), Counter())
    assert {total[f"a/{number}.png"] for number in range(10)} == {3}
    assert {total[f"c/{number}.png"] for number in range(6)} == {15}


def test_partial_epochs_show_all_classes(sets: Path) -> None:
    seen = paths(ConcatProxySet({"a": folder(sets, "a")}, STEPS, repeats={"a": 0.5}))
    assert sorted(seen) != [f"a/{number}.png" for number in range(5)]


def test_views_depend_on_the_concatenated_key(sets: Path) -> None:
    merged = ConcatProxySet({name: folder(sets, name) for name in "ab"}, RANDOM, repeats={"a": 0.5, "b": 2})
    keys = [SampleKey(1, epoch, image, view) for epoch in (0, 1) for image in (0, 4, 5, 9) for view in (0, 1)]
    wanted = [torch.cat([merged[key]["inputs"].flatten(), merged[key]["mask"].float()]) for key in keys]
    loader = DataLoader(merged, batch_size=None, sampler=keys[::-1], num_workers=2, multiprocessing_context="fork")
    for sample, view in zip(loader, wanted[::-1], strict=True):
        assert torch.equal(torch.cat([sample["inputs"].flatten(), sample["mask"].float()]), view)
    assert len(torch.stack(wanted).unique(dim=0)) == len(keys)
    # The same image has different views at two positions.
    assert merged.find(5)[1] == merged.find(9)[1]


def test_an_epoch_of_the_sampler_shows_each_image_once(sets: Path) -> None:
    merged = ConcatProxySet({name: folder(sets, name) for name in "abc"}, STEPS)
    stream = iter(ProxySampler(merged, seed=0))
    seen = [merged[next(stream)]["data_samples"].img_path for _ in range(len(merged))]
    assert len(set(seen)) == 20


def test_sets_keep_their_own_pipeline(sets: Path) -> None:
    cut = [STEPS[0], {"type": "proteus.CenterCrop", "crop_size": 8}, *STEPS[1:]]
    merged = ConcatProxySet({"a": folder(sets, "a"), "b": folder(sets, "b", pipeline=cut)}, STEPS)
    assert [merged[index]["inputs"].shape[-1] for index in (9, 10)] == [32, 8]


def test_corrupt_images_are_replaced_from_all_sets(tmp_path: Path, sets: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/0.jpg").write_bytes(b"nothing")
    merged = ConcatProxySet({"bad": folder(tmp_path, "bad"), "a": folder(sets, "a")}, STEPS)
    sample = merged[SampleKey(0, 0, 0)]
    assert sample["data_samples"].img_path.startswith(str(sets))
    assert [text.split(" ")[0] for text in sample["data_samples"].corrupt] == [str(tmp_path / "bad/0.jpg")]


def test_descriptions_of_all_kinds_of_sets(sets: Path) -> None:
    merged = ConcatProxySet(
        {
            "a": ImageFolder(str(sets / "a"), images_per_class=4),
            "inner": ConcatProxySet({"b": folder(sets, "b", classes=1), "c": folder(sets, "c")}),
            "crops": SingleImage(str(sets / "a/0.png"), length=30, size=16),
            "without": None,
        },
        STEPS,
        repeats={"inner": 2},
    )
    assert merged.describe().splitlines() == [
        "ConcatProxySet: 54 images an epoch, from 3 sets",
        f"    7.4%  a: ImageFolder {sets}/a: 4 images of 10 (images_per_class=4, subset_seed=0)",
        "   37.0%  inner (x 2): ConcatProxySet: 10 images an epoch, from 2 sets",
        f"       40.0%  b: ImageFolder {sets}/b: 4 images of 4 (classes=1, subset_seed=0)",
        f"       60.0%  c: ImageFolder {sets}/c: 6 images",
        f"   55.6%  crops: SingleImage {sets}/a/0.png (32 x 32): 30 crops of 16, crop_seed=0",
    ]
    assert {name: len(images) for name, images in merged.chosen().items()} == {"a": 4, "inner.b": 4}
    assert {tuple(merged[index]["inputs"].shape) for index in (0, 5, 30)} == {(3, 32, 32), (3, 16, 16)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datasets": {"a": None}}, "has no sets to concatenate"),
        ({"repeats": {"A": 2}}, "repeats: unknown sets A; choose from a, b"),
        ({"repeats": {"a": 0}}, "positive number, or None for the set"),
        (
            {"datasets": {"a": {"type": BaseDataset, "lazy_init": True}}},
            "datasets.a: BaseDataset is not a subclass of ProxySet",
        ),
    ],
)
def test_invalid_arguments(sets: Path, options: dict, message: str) -> None:
    datasets = {name: folder(sets, name) for name in "ab"}
    with pytest.raises(ValueError, match=message):
        ConcatProxySet(**{"datasets": datasets, **options})
