from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from data_samples import data_samples
from depth_models import estimator_config, make_estimator
from torch.optim import SGD

from proteus.models import DepthEstimator
from proteus.registry import MODELS
from proteus.structures import DataError

SLIDE = {"mode": "slide", "crop_size": 28, "stride": 14}


def test_it_is_built_from_a_config_without_mmseg() -> None:
    model = MODELS.build({"type": "DepthEstimator", **estimator_config()})
    assert isinstance(model, DepthEstimator)
    assert model(torch.randn(2, 3, 28, 42)).shape == (2, 28, 42)
    assert not any("mmseg" in type(part).__module__ for part in model.modules())


def test_the_head_reads_blocks_with_their_cls_tokens_before_the_norm() -> None:
    model = make_estimator().eval()
    images = torch.randn(1, 3, 28, 28)
    levels = model.features(images)
    vit = model.backbone.vit
    tokens, _ = model.backbone.embed(images)
    for level, block in zip(levels, vit.blocks, strict=True):
        tokens = block(tokens)
        torch.testing.assert_close(level.cls, tokens[:, 0])
        torch.testing.assert_close(level.patches, tokens[:, 1:])


@pytest.mark.parametrize("mode", ["whole", "slide"])
@pytest.mark.parametrize("size", [(28, 28), (20, 25)])
def test_one_window_over_the_image_is_the_whole_image(mode: str, size: tuple[int, int]) -> None:
    whole = make_estimator().eval()
    other = make_estimator(test_cfg={**SLIDE, "mode": f"{mode}_flip"} if mode == "slide" else {"mode": "whole_flip"})
    images = torch.randn(2, 3, *size)
    symmetric = torch.cat([images[..., :14], images[..., :14].flip(-1)], dim=-1)
    with torch.no_grad():
        plain = make_estimator(test_cfg=SLIDE if mode == "slide" else {"mode": "whole"}).eval()
        torch.testing.assert_close(plain(images), whole(images))
        # A mirror image of itself is not predicted symmetrically, but its two predictions are mirror images.
        flipped = other.eval()(symmetric)
        expected = whole(symmetric)
        torch.testing.assert_close(flipped, (expected + expected.flip(-1)) / 2)
        torch.testing.assert_close(flipped, flipped.flip(-1))


def test_windows_slide_over_a_larger_image() -> None:
    model, whole = make_estimator(test_cfg={**SLIDE, "mode": "slide_flip"}).eval(), make_estimator().eval()
    images = torch.randn(1, 3, 28, 42)
    with torch.no_grad():
        left, right = whole(images[..., :28]), whole(images[..., 14:])
        left = (left + whole(images[..., :28].flip(-1)).flip(-1)) / 2
        right = (right + whole(images[..., 14:].flip(-1)).flip(-1)) / 2
        expected = torch.cat([left[..., :14], (left[..., 14:] + right[..., :14]) / 2, right[..., 14:]], dim=-1)
        torch.testing.assert_close(model(images), expected)


def test_predictions_have_the_truths_size() -> None:
    model = make_estimator().eval()
    images, truths = [torch.randn(3, 28, 42), torch.randn(3, 28, 28)], [torch.rand(20, 30), torch.rand(31, 31)]
    metas = [{"img_path": "a.jpg"}, {"img_path": "b.jpg"}]
    results = model(images, truths, data_samples(*metas), mode="predict")
    for result, image, truth, meta in zip(results, images, truths, metas, strict=True):
        assert result["img_path"] == meta["img_path"]
        assert torch.equal(result["gt_depth"], truth)
        with torch.no_grad():
            depth = model(image[None])[:, None]
        expected = F.interpolate(depth, size=truth.shape, mode="bilinear", align_corners=False)[0, 0]
        torch.testing.assert_close(result["depth"], expected)
    (alone,) = model(torch.randn(1, 3, 28, 28), None, data_samples({"ori_shape": (13, 17)}), mode="predict")
    assert alone["depth"].shape == (13, 17)
    assert "gt_depth" not in alone


def train(model: DepthEstimator, steps: int = 3) -> list[float]:
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    model.train()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 28, 28, generator=generator)
    depths = torch.rand(2, 28, 28, generator=generator) + 1
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = sum(model(images, depths, mode="loss").values())
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("where", ["estimator", "backbone"])
def test_a_frozen_backbone_is_the_same_to_the_bit(where: str) -> None:
    options: dict[str, Any] = {"backbone": {"drop_path_rate": 0.9}, "freeze_backbone": True}
    if where == "backbone":
        options = {"backbone": {"drop_path_rate": 0.9, "frozen": True}}
    model = make_estimator(**options)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses = train(model)
    assert losses[-1] < losses[0]
    after = model.state_dict()
    assert not model.backbone.training
    assert model.decode_head.training
    for name, value in before.items():
        if name.startswith("backbone."):
            assert torch.equal(after[name], value), name
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert any("reassemble.0.readout" in name for name in changed)
    assert any("running_mean" in name for name in changed)
    # Drop path would make two passes differ.
    images = torch.randn(1, 3, 28, 28)
    assert torch.equal(model.features(images)[-1].cls, model.features(images)[-1].cls)


def test_every_trained_parameter_gets_a_gradient() -> None:
    """Else several processes would wait for each other in vain."""
    model = make_estimator(backbone={"depth": 5, "mask_token": True})
    train(model, steps=1)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert [name for name, value in trained.items() if value.grad is None] == []
    rest = {name for name, _ in model.named_parameters()} - set(trained)
    assert {name.split(".")[2] if "vit" in name else name for name in rest} == {"blocks", "norm", "backbone.mask_token"}
    assert all(".blocks.4." in name for name in rest if ".blocks." in name)


def test_it_learns_a_depth_that_the_image_shows() -> None:
    torch.manual_seed(0)
    model = make_estimator(freeze_backbone=True)
    images = torch.rand(4, 3, 1, 1).expand(4, 3, 28, 28).contiguous()
    depths = 1 + 4 * images[:, 0]
    optimizer = torch.optim.AdamW(model.decode_head.parameters(), lr=3e-3)
    model.train()
    for _ in range(60):
        optimizer.zero_grad()
        model(images, depths, mode="loss")["loss_silog"].backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        error = (model(images) - depths).abs().mean()
    assert error < 0.5 * (depths - depths.mean()).abs().mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decode_head": {"embed_dims": 48}}, "embed_dims=48.*width 32: write 32"),
        ({"backbone": {"out_indices": (1, 3)}}, r"out_indices=\(1, 3\).*4 blocks"),
        ({"backbone": {"center_padding": True}}, "center_padding=True.*remove center_padding"),
        ({"backbone": {"center_padding": False}}, "center_padding=False.*remove center_padding"),
        ({"test_cfg": {"mode": "window"}}, "slide_flip"),
        ({"test_cfg": {"mode": "slide"}}, "needs crop_size and stride"),
        ({"test_cfg": {"mode": "slide", "crop_size": 30, "stride": 14}}, "patches of 14 px"),
        ({"test_cfg": {"mode": "slide", "crop_size": 28, "stride": 29}}, "stride"),
        ({"test_cfg": {"mode": "whole", "flip": True}}, "write mode"),
    ],
)
def test_parts_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_estimator(**options)


def test_another_backbone_is_refused_by_name() -> None:
    config = estimator_config()
    config["backbone"] = {"type": "ViT", "arch": "tiny"}
    with pytest.raises(ValueError, match="write type='DenseViT' with out_indices"):
        DepthEstimator(**config)


def test_batches_that_cannot_be_trained_on() -> None:
    model = make_estimator()
    with pytest.raises(DataError, match="no depth"):
        model(torch.randn(1, 3, 28, 28), mode="loss")
    with pytest.raises(DataError, match=r"28x30 px.*crop them to 28x28"):
        model(torch.randn(1, 3, 28, 30), torch.rand(1, 28, 30), mode="loss")
    with pytest.raises(DataError, match="several sizes"):
        model([torch.randn(3, 28, 28), torch.randn(3, 28, 42)], [torch.rand(28, 28)] * 2, mode="loss")
