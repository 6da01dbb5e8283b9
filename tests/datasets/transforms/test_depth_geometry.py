from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.tv_tensors import Mask

from proteus.datasets import (
    DepthPad,
    DepthRandomCrop,
    DepthRandomFlip,
    DepthRandomResize,
    DepthRandomRotate,
    NYUCrop,
    ResizeImage,
    ToTensor,
    seeded,
)

HEIGHT, WIDTH = 480, 640
PATCH = 12


def marked(row: int = 300, column: int = 100) -> dict[str, Any]:
    """A black image 2 m away, with a white square 5 m away and an invalid square at the right."""
    pixels, depth = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.full((HEIGHT, WIDTH), 2, np.float32)
    part = slice(row, row + PATCH), slice(column, column + PATCH)
    pixels[part], depth[part] = 255, 5
    depth[200:230, 500:530] = 0
    return {"img": Image.fromarray(pixels), "depth": Mask(torch.from_numpy(depth)), "img_path": "a.jpg"}


def middle(where: np.ndarray) -> np.ndarray:
    return np.argwhere(where).mean(0)


def grey(results: dict[str, Any]) -> np.ndarray:
    image = results["img"]
    return image[0].numpy() * 255 if isinstance(image, torch.Tensor) else np.asarray(image)[..., 0].astype(float)


@pytest.mark.parametrize(
    "change",
    [
        DepthRandomFlip(1.0),
        DepthRandomRotate(1.0, 30),
        DepthRandomResize((770, 512), (0.8, 1.5)),
        DepthRandomResize((300, 200), (0.5, 1.5), "bicubic"),
        DepthRandomCrop((420, 560)),
        NYUCrop(),
        lambda results: DepthPad(700, fill=0.0)(ToTensor()(results)),
    ],
    ids=["flip", "rotate", "enlarge", "reduce", "crop", "nyu", "pad"],
)
def test_image_and_depth_stay_aligned_and_depths_keep_their_values(change: Callable[[dict], dict]) -> None:
    for seed in range(5):
        with seeded(seed):
            results = change(marked())
        depth, image = results["depth"].numpy(), grey(results)
        assert isinstance(results["depth"], Mask)
        assert depth.shape == image.shape
        assert set(np.unique(depth)) <= {0.0, 2.0, 5.0}
        assert (depth == 0).any()
        np.testing.assert_allclose(middle(depth == 5), middle(image > 127), atol=0.6)
        assert (depth == 5).sum() == pytest.approx((image > 127).sum(), rel=0.15)


def test_flips() -> None:
    assert middle(DepthRandomFlip(1.0)(marked())["depth"].numpy() == 5).tolist() == [305.5, WIDTH - 1 - 105.5]
    assert middle(DepthRandomFlip(0.0)(marked())["depth"].numpy() == 5).tolist() == [305.5, 105.5]
    with seeded(1):
        columns = {middle(DepthRandomFlip()(marked())["depth"].numpy() == 5)[1] for _ in range(20)}
    assert columns == {105.5, 533.5}


def test_sizes_match_mmcv_and_pixels_nearly() -> None:
    transforms = pytest.importorskip("mmcv.transforms")
    resize = transforms.RandomResize(scale=(770, 512), ratio_range=(0.8, 1.5), keep_ratio=True, resize_type="Resize")
    draw = np.random.default_rng(0)
    smooth = Image.fromarray(draw.integers(0, 256, (6, 8, 3), np.uint8)).resize(
        (WIDTH, HEIGHT), Image.Resampling.BICUBIC
    )
    for seed in range(6):
        with seeded(seed):
            theirs = resize({"img": np.array(smooth)})["img"]
        with seeded(seed):
            ours = DepthRandomResize()({**marked(), "img": smooth})["img"]
        assert (ours.height, ours.width) == theirs.shape[:2]
        assert np.abs(np.asarray(ours, float) - theirs).mean() < 1


def test_resized_depth_is_that_at_the_pixel_center() -> None:
    depth = torch.arange(1.0, 9).repeat(2, 1)
    results = DepthRandomResize((4, 1), (1, 1))({"img": Image.new("RGB", (8, 2)), "depth": Mask(depth)})
    assert results["depth"].tolist() == [[2.0, 4.0, 6.0, 8.0]]


def test_resizing_keeps_metres() -> None:
    results = DepthRandomResize((1280, 960), (1, 1))(marked())
    assert results["depth"].shape == (960, 1280)
    assert results["depth"].max() == 5


def test_crop_and_padding_at_the_smallest_ratio() -> None:
    """At ratio 0.8 a frame has 545 x 409: crop the width, pad the height (docs/reproduction.md#nyu-depth-v2)."""
    results = DepthRandomResize(ratio_range=(0.8, 0.8))(marked())
    assert results["img"].size == (545, 409)
    results = DepthPad(518)(ToTensor()(DepthRandomCrop(518)(results)))
    assert results["img"].shape == (3, 518, 518)
    assert results["depth"].shape == (518, 518)
    assert results["depth"][409:].eq(0).all()
    assert results["depth"][:409].ne(0).any(1).all()
    assert results["img"][:, 409:].eq(0.5).all()
    again = DepthPad(518)(dict(results))
    assert again["img"] is results["img"]


def test_crops_reach_all_borders() -> None:
    rows = Mask(torch.arange(1.0, 5).view(4, 1).expand(4, 3))
    with seeded(0):
        found = [
            tuple(DepthRandomCrop((2, 9))({"img": Image.new("RGB", (3, 4)), "depth": rows})["depth"][:, 0].tolist())
            for _ in range(40)
        ]
    assert set(found) == {(1, 2), (2, 3), (3, 4)}


def test_padding_needs_a_tensor() -> None:
    with pytest.raises(TypeError, match="DepthPad takes a tensor"):
        DepthPad()(marked())


def test_nyu_crop() -> None:
    results = marked(row=45, column=43)
    results = NYUCrop()(results)
    assert results["img"].size == (565, 427)
    assert middle(results["depth"].numpy() == 5).tolist() == [5.5, 5.5]
    with pytest.raises(ValueError, match=r"a\.jpg: NYUCrop\.box ends at row 472 .* but the image is 565 x 427"):
        NYUCrop()(results)


def test_rotations_about_the_center_uncover_invalid_depth() -> None:
    turned = []
    for seed in range(20):
        with seeded(seed):
            results = DepthRandomRotate(1.0, 2.5)(marked(234, 564))
        offset = middle(results["depth"].numpy() == 5) - [239.5, 319.5]
        assert np.hypot(*offset) == pytest.approx(250, abs=1)
        turned.append(np.degrees(np.arctan2(offset[0], offset[1])))
        uncovered = np.zeros((HEIGHT, WIDTH), bool)
        uncovered[0, 0] = uncovered[0, -1] = uncovered[-1, 0] = uncovered[-1, -1] = True
        if abs(turned[-1]) > 0.5:
            assert (results["depth"].numpy()[uncovered] == 0).sum() >= 2
    assert -2.7 < min(turned) < -1
    assert 1 < max(turned) < 2.7


def test_resize_image_keeps_the_depth_map() -> None:
    results = ResizeImage()(marked())
    assert results["img"].size == (691, 518)
    assert results["depth"].shape == (HEIGHT, WIDTH)
    assert ResizeImage((640, 480), divisor=14)(marked())["img"].size == (644, 476)
