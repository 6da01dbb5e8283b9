import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_samples import data_samples
from PIL import Image
from torch.utils.data import DataLoader

from proteus.datasets import NYUDepth, ProxySampler, SampleKey, depth_collate
from proteus.registry import DATASETS, TRANSFORMS
from proteus.structures import DataError

PLAIN = [dict(type="LoadImage"), dict(type="LoadDepth"), dict(type="ToTensor"), dict(type="PackDepth")]
RANDOM = [
    dict(type="LoadImage"),
    dict(type="LoadDepth"),
    dict(type="CutDepth", prob=0.5),
    dict(type="DepthRandomFlip"),
    dict(type="DepthRandomRotate"),
    dict(type="DepthRandomResize", scale=(16, 12)),
    dict(type="DepthRandomCrop", size=12),
    dict(type="RandomBrightnessContrast"),
    dict(type="RandomGamma"),
    dict(type="HueSaturationValue"),
    dict(type="ToTensor"),
    dict(type="ColorAug"),
    dict(type="DepthPad", size=12),
    dict(type="PackDepth"),
]


def built(root: Path, pipeline: list[dict[str, Any]] = PLAIN, **options: Any) -> NYUDepth:
    steps = [TRANSFORMS.build(dict(step)) for step in pipeline]
    return DATASETS.build(dict(type="NYUDepth", data_root=str(root), pipeline=steps, **options))


def test_toolbox_layout(toolbox: Path) -> None:
    images = built(toolbox)
    names = [Path(images.get_data_info(i)["img_path"]).relative_to(toolbox).as_posix() for i in range(len(images))]
    assert names == [
        f"{scene}/rgb_{number}.jpg" for scene in ("attic_0001", "kitchen_0028b") for number in ("00007", "00045")
    ]
    sample = images[1]
    stored = np.asarray(Image.open(toolbox / "attic_0001/sync_depth_00045.png"))
    assert sample["depth"].dtype == torch.float32
    assert type(sample["depth"]) is torch.Tensor
    np.testing.assert_allclose(sample["depth"].numpy(), stored / 1000, rtol=1e-6)
    assert sample["depth"][0].eq(0).all()
    assert sample["data_samples"].metainfo == {
        "img_path": str(toolbox / "attic_0001/rgb_00045.jpg"),
        "depth_path": str(toolbox / "attic_0001/sync_depth_00045.png"),
        "ori_shape": (12, 16),
    }
    assert sample["inputs"].shape == (3, 12, 16)
    rgb = np.asarray(Image.open(sample["data_samples"].img_path))
    assert np.array_equal(sample["inputs"].permute(1, 2, 0).numpy(), rgb)
    assert len(built(toolbox, split="test")) == 2


def test_user_supplied_list_and_images_without_depth(toolbox: Path) -> None:
    (toolbox / "few.txt").write_text(
        "attic_0001/rgb_00045.jpg attic_0001/sync_depth_00045.png\nattic_0001/rgb_00007.jpg None 5\n"
    )
    images = built(toolbox, split_file="few.txt", depth_scale=500)
    assert len(images) == 1
    assert images[0]["depth"].max() > 9
    assert "1 more are listed without a depth map" in images.describe()
    assert len(built(toolbox, split_file=str(toolbox / "few.txt"))) == 1


def test_mmseg_layout_is_read_as_by_mmseg(mmseg_layout: Path) -> None:
    nyu = pytest.importorskip("mmseg.datasets").NYUDataset
    images = built(mmseg_layout)
    theirs = nyu(
        data_root=str(mmseg_layout),
        data_prefix=dict(img_path="images/train", depth_map_path="annotations/train"),
        pipeline=[],
    )
    ours = [(info["img_path"], info["depth_path"]) for info in map(images.get_data_info, range(len(images)))]
    assert ours == [
        (info["img_path"], info["depth_map_path"]) for info in map(theirs.get_data_info, range(len(theirs)))
    ]
    assert len(ours) == 2
    assert len(built(mmseg_layout, split="test")) == 1


def test_depths_match_mmseg(mmseg_layout: Path) -> None:
    load = pytest.importorskip("mmseg.datasets.transforms").LoadDepthAnnotation(depth_rescale_factor=1e-3)
    for sample in map(built(mmseg_layout).__getitem__, range(2)):
        theirs = load({"depth_map_path": sample["data_samples"].depth_path, "seg_fields": []})["gt_depth_map"]
        np.testing.assert_allclose(sample["depth"].numpy(), theirs, rtol=1e-6)


def test_unofficial_counts_are_reported(toolbox: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        images = built(toolbox, split="test")
    assert images.describe() == f"NYU Depth V2 (test) {toolbox}: 2 pairs (officially 654)"
    assert built(toolbox, indices=3).describe().endswith(": 3 pairs of 4 (officially 24,231)")


def test_a_view_depends_only_on_its_key(toolbox: Path) -> None:
    images, again = built(toolbox, RANDOM), built(toolbox, RANDOM)
    key = SampleKey(3, 1, 2)
    first = images[key]
    torch.manual_seed(9)
    for other in (SampleKey(3, 1, 1), SampleKey(3, 0, 2), SampleKey(4, 1, 2)):
        assert not torch.equal(images[other]["inputs"], first["inputs"])
    second = again[key]
    assert torch.equal(first["inputs"], second["inputs"])
    assert torch.equal(first["depth"], second["depth"])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_stream_equals_the_uninterrupted_one(toolbox: Path, workers: int) -> None:
    def batches(skipped: int, count: int) -> list[dict[str, Any]]:
        images = built(toolbox, RANDOM)
        sampler = ProxySampler(images, seed=5)
        sampler.skip(2 * skipped)
        loader = DataLoader(images, 2, sampler=sampler, collate_fn=depth_collate, num_workers=workers)
        return [batch for batch, _ in zip(loader, range(count), strict=False)]

    uninterrupted, resumed = batches(0, 5), batches(3, 2)
    for whole, after in zip(uninterrupted[3:], resumed, strict=True):
        assert [s.metainfo for s in whole["data_samples"]] == [s.metainfo for s in after["data_samples"]]
        assert torch.equal(whole["inputs"], after["inputs"])
        assert torch.equal(whole["depths"], after["depths"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("attic_0001/rgb_00007.jpg", r"nyu_train\.txt, line 6: 'attic_0001/rgb_00007\.jpg' is not IMAGE DEPTH FOCAL"),
        ("a.jpg a.png far", r"line 6: 'a\.jpg a\.png far' is not IMAGE DEPTH FOCAL"),
        ("a.jpg a.png 518.8 x", r"line 6: .* is not IMAGE DEPTH FOCAL"),
        (
            "/attic_0001/rgb_00007.jpg /attic_0001/sync_depth_00008.png 5",
            r"attic_0001/sync_depth_00008\.png is missing \(.*nyu_train\.txt, line 6\); complete",
        ),
        (
            "cellar/rgb_1.jpg cellar/sync_depth_1.png 5",
            r"cellar/rgb_1\.jpg is missing \(.*nyu_train\.txt, line 6\), and 1 more files; complete",
        ),
    ],
)
def test_wrong_lines_are_named(line: str, message: str, toolbox: Path) -> None:
    with (toolbox / "nyu_train.txt").open("a") as file:
        file.write(line)
    with pytest.raises(DataError, match=message):
        built(toolbox)


def test_missing_depth_in_mmseg_layout(mmseg_layout: Path) -> None:
    (mmseg_layout / "annotations/train/kitchen_0028b_00045.png").unlink()
    with pytest.raises(DataError, match=r"annotations/train/kitchen_0028b_00045\.png is missing \(for .*00045\.jpg\)"):
        built(mmseg_layout)


def test_missing_layout(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"(?s)nyu_train\.txt does not exist.*annotations/\{train,test\}"):
        built(tmp_path)
    (tmp_path / "file").touch()
    for name, what in (("file", "file is a file, not a folder"), ("nowhere", "no folder .*nowhere")):
        with pytest.raises(FileNotFoundError, match=rf"dataset\.data_root: .*{what}; "):
            built(tmp_path / name)


def test_files_that_cannot_be_a_pair_are_refused_at_start(toolbox: Path, put: Any) -> None:
    depth = toolbox / "kitchen_0028b/sync_depth_00045.png"
    put(toolbox / "other.jpg", depth, 12, 15)
    with pytest.raises(
        DataError, match=r"sync_depth_00045\.png has 15 x 12 pixels, but its image .* has 16 x 12 .*line 1\)"
    ):
        built(toolbox)
    for mode in ("L", "RGB", "P"):
        Image.new(mode, (16, 12), 3).save(depth)
        with pytest.raises(DataError, match=rf"00045\.png: a depth map is a PNG of one 16-bit channel.*'{mode}'"):
            built(toolbox)
    depth.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"cannot read .*00045\.png \(.*line 1\)"):
        built(toolbox)
    (toolbox / "attic_0001/rgb_00007.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"rgb_00007\.jpg .*\n2 of 4 pairs cannot be used; this is the first"):
        built(toolbox)


@pytest.mark.parametrize(
    ("depth_scale", "stored", "likely"),
    [(1, 2500, 1000), (1000, 25000, 10000), (100_000, 2500, 1000), (1000, 12500, 5000), (1000, 25, 10)],
)
def test_implausible_depth_scale(depth_scale: float, stored: int, likely: int, toolbox: Path) -> None:
    for path in toolbox.glob("*/sync_depth_*.png"):
        Image.fromarray(np.full((12, 16), stored, np.uint16)).save(path)
    message = re.escape(f"depth_scale={depth_scale:g} is implausible") + f".* store {stored} to {stored}, .*"
    with pytest.raises(DataError, match=message + f"depth_scale={likely} would make the median 2.50 m"):
        built(toolbox, depth_scale=depth_scale)
    assert len(built(toolbox, depth_scale=likely)) == 4
    assert len(built(toolbox, depth_scale=depth_scale, check_maps=0)) == 4


def test_a_map_without_valid_depth(toolbox: Path) -> None:
    Image.fromarray(np.zeros((12, 16), np.uint16)).save(toolbox / "attic_0001/sync_depth_00045.png")
    with pytest.raises(DataError, match=r"sync_depth_00045\.png \(.*nyu_train.txt, line 3\) has no valid depth"):
        built(toolbox, check_maps=None)
    images = built(toolbox, check_maps=1)
    with pytest.raises(DataError, match=r"sync_depth_00045\.png has no valid depth"):
        images[1]


def test_truncated_pairs_are_errors_and_never_replaced(toolbox: Path) -> None:
    path = toolbox / "attic_0001/rgb_00045.jpg"
    Image.effect_noise((16, 12), 90).convert("RGB").save(path, quality=95)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 60])
    images = built(toolbox)
    with pytest.raises(DataError, match=r"rgb_00045\.jpg \(OSError.*restore the file"):
        images[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "val"}, "split='val': write 'train' or 'test'"),
        ({"depth_scale": 0}, "depth_scale=0: write a number above 0"),
        ({"depth_scale": float("nan")}, "depth_scale=nan: write a number above 0"),
        ({"depth_scale": float("inf")}, "depth_scale=inf"),
        ({"depth_scale": "1000"}, "depth_scale='1000'"),
        ({"check_maps": -1}, "check_maps=-1: write a whole number, 0 or more"),
        ({"check_maps": 1.5}, "check_maps=1.5"),
    ],
)
def test_settings_out_of_range(options: dict[str, Any], message: str, toolbox: Path) -> None:
    with pytest.raises(ValueError, match=message):
        built(toolbox, **options)


def packed(height: int, depth_height: int) -> dict:
    return {
        "inputs": torch.ones(3, height, 4),
        "depth": torch.ones(depth_height, 4),
        "data_samples": data_samples({"height": height})[0],
    }


def test_collate_stacks_equal_sizes_and_lists_others() -> None:
    batch = depth_collate([packed(5, 2), packed(5, 3)])
    assert batch["inputs"].shape == (2, 3, 5, 4)
    assert [tuple(depth.shape) for depth in batch["depths"]] == [(2, 4), (3, 4)]
    assert [each.metainfo for each in batch["data_samples"]] == [{"height": 5}] * 2
    batch = depth_collate([packed(5, 2), packed(6, 2)])
    assert [tuple(image.shape) for image in batch["inputs"]] == [(3, 5, 4), (3, 6, 4)]
    assert batch["depths"].shape == (2, 2, 4)
