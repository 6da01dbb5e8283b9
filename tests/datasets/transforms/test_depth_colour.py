from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.tv_tensors import Mask

from proteus.datasets import (
    ColorAug,
    CutDepth,
    HueSaturationValue,
    RandomBrightnessContrast,
    RandomGamma,
    ToTensor,
    seeded,
)


def framed(depth: Any, colour: tuple[int, int, int] = (10, 20, 30)) -> dict[str, Any]:
    depth = torch.as_tensor(depth, dtype=torch.float32)
    return {"img": Image.new("RGB", (depth.shape[1], depth.shape[0]), colour), "depth": Mask(depth)}


def painted(results: dict[str, Any], colour: tuple[int, int, int] = (10, 20, 30)) -> np.ndarray:
    """Return the columns that differ from the colour."""
    return np.flatnonzero((np.asarray(results["img"]) != colour).any((0, 2)))


def test_cut_depth_paints_a_stripe_of_scaled_depths() -> None:
    depth = torch.tensor([[0.0], [2.0], [5.0], [10.0], [14.0]]).expand(5, 40)
    for seed in range(30):
        with seeded(seed):
            results = CutDepth(prob=1.0)(framed(depth))
        columns = painted(results)
        assert 1 <= len(columns) <= 30
        assert np.array_equal(columns, np.arange(columns[0], columns[-1] + 1))
        for channel in range(3):
            assert np.asarray(results["img"])[:, columns[0], channel].tolist() == [0, 51, 128, 255, 255]
        assert torch.equal(results["depth"], depth)


def test_wrapped_depths_as_in_the_released_code() -> None:
    depth = torch.tensor([[0.0], [0.255], [0.256], [1.0], [9.999]]).expand(5, 8)
    results = CutDepth(prob=1.0, wrap=True)(framed(depth))
    column = painted(results)[0]
    assert np.asarray(results["img"])[:, column, 0].tolist() == [0, 255, 0, 1000 % 256, 9999 % 256]


def test_wrapped_depths_match_mmseg() -> None:
    theirs = pytest.importorskip("mmseg.datasets.transforms").RandomDepthMix(prob=0.7)
    draw = np.random.default_rng(0)
    for seed in range(12):
        depth = draw.integers(0, 9999, (30, 50)).astype(np.float32) / 1000
        pixels = draw.integers(0, 256, (30, 50, 3), np.uint8)
        with seeded(seed):
            given = {"img": Image.fromarray(pixels), "depth": Mask(torch.from_numpy(depth))}
            ours = np.asarray(CutDepth(prob=0.7, wrap=True)(given)["img"])
        with seeded(seed):
            given = {"img": pixels.copy(), "img_shape": (30, 50), "gt_depth_map": depth, "depth_rescale_factor": 1e-3}
            mixed = theirs(given)["img"]
        # mmseg truncates fractions of a millimetre and ours rounds: the difference is at most 1 modulo 256.
        assert ((ours.astype(int) - mixed + 1) % 256).max() <= 2
        assert np.array_equal((ours != pixels).any((0, 2)), (mixed != pixels).any((0, 2)))


def test_probability() -> None:
    with seeded(0):
        changed = sum(len(painted(CutDepth()(framed(torch.full((2, 9), 6.0))))) > 0 for _ in range(400))
    assert 70 <= changed <= 130


def levels() -> Image.Image:
    return Image.fromarray(np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, 2))


def test_brightness_and_contrast_are_a_clipped_line() -> None:
    offsets, slopes = [], []
    for seed in range(40):
        with seeded(seed):
            out = np.asarray(RandomBrightnessContrast(1.0)({"img": levels()})["img"])[:, 0, 0].astype(float)
        inner = np.flatnonzero((out > 0) & (out < 255))
        slope, offset = np.polyfit(inner, out[inner], 1)
        expected = np.clip(np.arange(256) * slope + offset, 0, 255)
        assert np.abs(out - expected).max() < 1.1
        slopes.append(slope)
        offsets.append(offset)
    assert 0.79 < min(slopes) < 0.85 < 1.15 < max(slopes) < 1.21
    assert -53 < min(offsets) < -40 < 40 < max(offsets) < 52


def test_gamma() -> None:
    powers = []
    for seed in range(20):
        with seeded(seed):
            out = np.asarray(RandomGamma(1.0)({"img": levels()})["img"])[:, 0, 0] / 255
        assert (out[0], out[255]) == (0, 1)
        powers.append(np.log(out[128]) / np.log(128 / 255))
    assert 0.78 < min(powers) < 0.9 < 1.1 < max(powers) < 1.22


def test_hue_saturation_value() -> None:
    pure = Image.new("RGB", (1, 1), (200, 0, 0))
    seen = []
    for seed in range(60):
        with seeded(seed):
            seen.append(np.asarray(HueSaturationValue(1.0, 40, 0, 0)({"img": pure})["img"])[0, 0].tolist())
    # Up to 40 degrees of hue on either side of red add up to 40/60 of green or blue.
    assert all(pixel[0] == 200 and (pixel[1] == 0 or pixel[2] == 0) for pixel in seen)
    assert 110 < max(pixel[1] for pixel in seen) <= 134
    assert 110 < max(pixel[2] for pixel in seen) <= 134
    with seeded(2):
        values = [max(np.asarray(HueSaturationValue(1.0, 0, 0, 20)({"img": pure})["img"])[0, 0]) for _ in range(60)]
        pale = [min(np.asarray(HueSaturationValue(1.0, 0, 30, 0)({"img": pure})["img"])[0, 0]) for _ in range(60)]
    assert 179 <= min(values) < 190 < 210 < max(values) <= 220
    assert min(pale) == 0
    assert 15 < max(pale) <= 25


def test_probability_0_changes_nothing() -> None:
    for change in (RandomBrightnessContrast(0), RandomGamma(0), HueSaturationValue(0), ColorAug(0), CutDepth(0)):
        results = framed(torch.ones(2, 2))
        before = ToTensor("float32")(results)["img"] if isinstance(change, ColorAug) else results["img"]
        assert change(results)["img"] is before


def test_color_aug() -> None:
    image = torch.tensor([0.0, 0.25, 1.0]).view(1, 1, 3).expand(3, 1, 3)
    fixed = ColorAug(1.0, (0.5, 0.5), (0.8, 0.8), (1.1, 1.1))({"img": image})["img"]
    torch.testing.assert_close(fixed, torch.tensor([0.0, 0.44, 0.88]).view(1, 1, 3).expand(3, 1, 3))
    clipped = ColorAug(1.0, (1, 1), (1.25, 1.25), (1, 1))({"img": image})["img"]
    torch.testing.assert_close(clipped[0, 0], torch.tensor([0.0, 0.3125, 1.0]))
    with seeded(0):
        channels = ColorAug(1.0, (1, 1), (0.5, 0.5))({"img": torch.ones(3, 1, 1)})["img"].flatten()
    assert len(set(channels.tolist())) == 3
    assert ((channels > 0.45) & (channels < 0.55)).all()


def test_raw_gamma_darkens_white() -> None:
    """The power is applied to values up to 255."""
    white, rest = torch.ones(3, 1, 1), ((1, 1), (1, 1))
    raw = ColorAug(1.0, (0.9, 0.9), *rest, raw_gamma=True)({"img": white})["img"] * 255
    torch.testing.assert_close(raw, torch.full((3, 1, 1), 255**0.9))
    assert raw[0].item() == pytest.approx(146.5, abs=0.1)
    saturated = ColorAug(1.0, (1.1, 1.1), *rest, raw_gamma=True)({"img": white * 155 / 255})["img"]
    assert (saturated == 1).all()


def test_color_aug_of_bytes_equals_that_of_floats() -> None:
    found = []
    for dtype in ("uint8", "float32"):
        for prob in (0.0, 1.0):
            with seeded(4):
                found.append(ColorAug(prob)(ToTensor(dtype)(framed(torch.ones(2, 2))))["img"])
    assert {image.dtype for image in found} == {torch.float32}
    assert torch.equal(torch.stack(found[:2]), torch.stack(found[2:]))


def test_color_aug_needs_a_tensor() -> None:
    with pytest.raises(TypeError, match="ColorAug takes a tensor"):
        ColorAug()(framed(torch.ones(2, 2)))
