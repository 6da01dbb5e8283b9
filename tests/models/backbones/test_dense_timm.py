from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from proteus.models import DenseTimm

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("arch", ["test_convnext", "test_resnet", "resnet10t", "test_efficientnet"])
def test_maps_equal_timms_features_only(arch: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model(arch, num_classes=0).eval()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    dense = DenseTimm(arch, checkpoint=tmp_path / "weights.safetensors").eval()
    theirs = timm.create_model(arch, features_only=True, out_indices=dense.out_indices).eval()
    theirs.load_state_dict(model.state_dict(), strict=False)
    if arch == "test_convnext":  # timm calls its stages differently there
        theirs.load_state_dict(
            {k.replace("stages.", "stages_").replace("stem.", "stem_"): v for k, v in model.state_dict().items()},
            strict=False,
        )
    with torch.inference_mode():
        found, expected = dense(IMAGES), theirs(IMAGES)
    assert tuple(map_.shape[1] for map_ in found) == dense.channels == tuple(theirs.feature_info.channels())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_vit_gives_maps_of_one_size() -> None:
    dense = DenseTimm("test_vit", out_indices=(2, 5), img_size=64)
    maps = dense(torch.randn(1, 3, 64, 64))
    assert [map_.shape for map_ in maps] == [(1, 64, 4, 4)] * 2
    assert dense.channels == (64, 64)


def test_frozen_means_statistics_of_batch_norm_too() -> None:
    dense = DenseTimm("test_resnet", frozen=True)
    before = {name: value.clone() for name, value in dense.state_dict().items()}
    torch.nn.Sequential(dense).train()
    maps = dense(IMAGES)
    assert not any(map_.requires_grad for map_ in maps)
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(value, before[name]) for name, value in dense.state_dict().items())


@pytest.mark.parametrize("arch", ["test_convnext", "test_vit", "resnet10t"])
@pytest.mark.parametrize("norm", [False, True])
def test_every_parameter_that_is_trained_gets_a_gradient(arch: str, norm: bool) -> None:
    dense = DenseTimm(arch, out_indices=(0, 1), img_size=64, final_norm=norm)
    sum(map_.square().sum() for map_ in dense(torch.randn(2, 3, 64, 64))).backward()  # type: ignore[union-attr]
    got = {name for name, parameter in dense.named_parameters() if parameter.grad is not None}
    assert got == {name for name, parameter in dense.named_parameters() if parameter.requires_grad}


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"out_indices=\[9\] of test_convnext, which has 4 levels \(0 to 3\)"):
        DenseTimm("test_convnext", out_indices=(9,))


def test_a_wide_head_and_arguments_of_students() -> None:
    with torch.device("meta"):
        model = DenseTimm("mobilenetv3_small_050", img_size=64, out_indices=(2, 3))
        assert [tuple(each.shape[-2:]) for each in model.eval()(torch.empty(1, 3, 64, 64))] == [(8, 8), (4, 4)]
    assert not any(value.requires_grad for name, value in model.named_parameters() if "conv_head" in name)
    with pytest.raises(ValueError, match=r"levels: only TimmBackbone takes it; write out_indices"):
        DenseTimm("test_resnet", levels=(-1,))
