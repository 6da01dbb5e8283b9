import pickle
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from runs import SERVER
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from proteus.datasets import ProxySampler, SampleKey, SingleImage

STEPS = [{"type": f"proteus.{name}"} for name in ("LoadImage", "ToTensor", "PackInputs")]
VIEW = [STEPS[0], {"type": "proteus.RandomResizedCrop", "scale": 28}, *STEPS[1:]]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a picture with red growing to the right and green to the bottom: a colour shows where a pixel is from."""
    path = tmp_path_factory.mktemp("single") / "picture.png"
    down, right = np.mgrid[0:400, 0:600]
    pixels = np.stack([right * 255 // 599, down * 255 // 399, np.full_like(down, 128)], axis=2)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def crop(single: SingleImage, index: int) -> Image.Image:
    return Image.open(BytesIO(single.get_data_info(index)["img_bytes"]))


def test_crops_are_different_jpegs_of_the_given_size(picture: Path) -> None:
    single = SingleImage(str(picture), length=10**9, size=64)
    assert len(single) == 10**9
    crops = [crop(single, index) for index in (0, 1, 2, 999_999_999)]
    assert {(image.format, image.size, image.mode) for image in crops} == {("JPEG", (64, 64), "RGB")}
    assert len({image.tobytes() for image in crops}) == 4
    assert list(picture.parent.iterdir()) == [picture]  # nothing is written


def test_crops_match_the_five_steps_of_the_generator(picture: Path) -> None:
    single = SingleImage(str(picture), size=64)
    steps = v2.Compose(
        [
            v2.RandomCrop(200),
            v2.RandomResizedCrop(90, (1 / 500, 1), interpolation=v2.InterpolationMode.BICUBIC),
            v2.RandomAffine(30, shear=30, interpolation=v2.InterpolationMode.BILINEAR),
            v2.CenterCrop(64),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)]),
        ]
    )
    for seed in range(10):
        torch.manual_seed(seed)
        wanted = steps(Image.open(picture))
        torch.manual_seed(seed)
        assert single.draw().tobytes() == wanted.tobytes()


def test_crops_depend_only_on_seed_and_position(picture: Path) -> None:
    single = SingleImage(str(picture), STEPS, size=64)
    first = single[SampleKey(0, 0, 5)]["inputs"]
    assert torch.equal(first, single[SampleKey(9, 3, 5, 1)]["inputs"])
    torch.manual_seed(1)
    assert torch.equal(first, SingleImage(str(picture), STEPS, length=10, size=64)[5]["inputs"])
    assert not torch.equal(first, single[6]["inputs"])
    assert not torch.equal(first, SingleImage(str(picture), STEPS, size=64, crop_seed=1)[5]["inputs"])


def test_the_pipeline_draws_views_of_crops_by_key(picture: Path) -> None:
    single = SingleImage(str(picture), VIEW, size=64)
    keys = [SampleKey(0, epoch, 5, view) for epoch in (0, 1) for view in (0, 1)]
    views = [single[key]["inputs"] for key in keys]
    assert len(torch.stack(views).unique(dim=0)) == 4
    assert all(torch.equal(single[key]["inputs"], view) for key, view in zip(keys, views, strict=True))
    assert single[keys[0]]["data_samples"].metainfo == {"img_path": f"{picture}#5", "corrupt": []}


def test_crops_come_from_everywhere_at_every_scale(picture: Path) -> None:
    """The window has 200 pixels, half the shorter side: a crop has at most 200/600 of the range of red."""
    single = SingleImage(str(picture), size=32)
    single.change.transforms.pop()  # the colour jitter
    centres, ranges = [], []
    for index in range(300):
        pixels = np.asarray(crop(single, index), dtype=float)
        inside = pixels[pixels[..., 2] > 110]
        centres.append(np.median(inside[:, :2], axis=0) / 255)
        ranges.append(np.ptp(np.percentile(inside[:, 0], [5, 95])) / 255)
    low, high = np.percentile(centres, [2, 98], axis=0)
    assert (low < 0.25).all()
    assert (high > 0.75).all()
    assert max(ranges) < 0.36
    assert min(ranges) < 0.08


def test_rotated_crops_have_black_corners(picture: Path) -> None:
    single = SingleImage(str(picture), size=64)
    single.change.transforms.pop()
    dark = [(np.asarray(crop(single, index)).max(axis=2) < 30).mean() for index in range(100)]
    assert np.mean(np.array(dark) > 0) > 0.05
    assert np.mean(dark) < 0.15


def test_half_of_the_crops_are_colour_jittered(picture: Path) -> None:
    """Blue is 128 everywhere in the picture."""
    single = SingleImage(str(picture), size=64)
    blue = [np.asarray(crop(single, index))[24:40, 24:40, 2].mean() for index in range(200)]
    assert 0.35 < np.mean(np.abs(np.array(blue) - 128) < 2.5) < 0.65


@pytest.mark.slow
def test_workers_and_ranks_see_the_same_crops(picture: Path) -> None:
    single = SingleImage(str(picture), STEPS, length=12, size=32)
    sampler = ProxySampler(single, seed=0)
    keys = [key for key, _ in zip(sampler, range(12), strict=False)]
    for context in ("fork", SERVER):  # SERVER: the set is pickled, as with "spawn"
        loader = DataLoader(single, batch_size=None, sampler=keys, num_workers=2, multiprocessing_context=context)
        for key, sample in zip(keys, loader, strict=True):
            assert torch.equal(sample["inputs"], single[key.image]["inputs"])


def test_pixels_are_not_pickled(picture: Path) -> None:
    single = SingleImage(str(picture), STEPS, size=32)
    assert len(pickle.dumps(single)) < 20_000
    assert torch.equal(pickle.loads(pickle.dumps(single))[3]["inputs"], single[3]["inputs"])


def test_invalid_arguments(picture: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"picture: .*nowhere\.jpg does not exist"):
        SingleImage(str(tmp_path / "nowhere.jpg"))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"cannot be read: .*broken"):
        SingleImage(str(broken))
    with pytest.raises(ValueError, match="length=0"):
        SingleImage(str(picture), length=0)
    Image.new("RGB", (1, 50)).save(tmp_path / "line.png")
    with pytest.raises(ValueError, match="give a larger one"):
        SingleImage(str(tmp_path / "line.png"))
