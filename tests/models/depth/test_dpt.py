"""DPT's decoder against two independent implementations with the same weights."""

from __future__ import annotations

import pytest
import torch
from depth_models import WIDTHS, make_levels, randomise
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from transformers import DPTConfig
from transformers.models.dpt.modeling_dpt import DPTDepthEstimationHead, DPTNeck

from proteus.models import DPTDepthHead
from proteus.models.depth.dpt import DPTDecoder, norm_layer


def transformers_names(name: str) -> str | None:
    """What ``transformers`` calls a weight of ours; None for the block that it has and never runs."""
    part, index, *rest = name.split(".")
    if part == "reassemble":
        kind = {"readout": "readout_projects.{}", "project": "layers.{}.projection", "resize": "layers.{}.resize"}
        return "reassemble_stage." + ".".join([kind[rest[0]].format(index), *rest[1:]])
    if part == "convs":
        return f"convs.{index}.{rest[0]}"
    if part == "fusion":
        unit = {"skip": "residual_layer1", "unit": "residual_layer2", "project": "projection"}[rest[0]]
        rest[1] = rest[1].replace("conv", "convolution").replace("norm", "batch_norm") if len(rest) > 2 else rest[1]
        return ".".join(["fusion_stage.layers", index, unit, *rest[1:]])
    return None


@pytest.mark.parametrize("norm", ["BN", None])
@pytest.mark.parametrize("readout_type", ["project", "add", "ignore"])
@pytest.mark.parametrize("grid", [(4, 6), (5, 5)])
def test_reassemble_and_fusion_equal_transformers(grid: tuple[int, int], readout_type: str, norm: str | None) -> None:
    torch.manual_seed(0)
    ours = DPTDecoder(32, WIDTHS, 16, readout_type, norm).eval().double()
    randomise(ours)
    config = DPTConfig(
        hidden_size=32,
        num_attention_heads=2,
        neck_hidden_sizes=list(WIDTHS),
        fusion_hidden_size=16,
        readout_type=readout_type,
        reassemble_factors=[4, 2, 1, 0.5],
        is_hybrid=False,
        use_batch_norm_in_fusion_residual=norm is not None,
        use_bias_in_fusion_residual=False,
    )
    theirs = DPTNeck(config).eval().double()
    state = {transformers_names(name): value for name, value in ours.state_dict().items()}
    state.pop(None)
    missing = theirs.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys
    # The first block's other residual unit is built there and never run.
    assert all(name.startswith("fusion_stage.layers.0.residual_layer1") for name in missing.missing_keys)
    levels = make_levels(grid, torch.float64)
    tokens = [torch.cat([level.cls[:, None], level.patches], dim=1) for level in levels]
    with torch.no_grad():
        expected = theirs(tokens, *grid)[-1]
        torch.testing.assert_close(ours(levels), ours.project(expected))
    rows, columns = (8 * (side + side % 2) for side in grid)
    assert expected.shape[-2:] == (rows, columns)


def test_a_conv_output_equals_transformers() -> None:
    torch.manual_seed(0)
    ours = DPTDepthHead(32, WIDTHS, 16, norm=None, output="conv", min_depth=0.25).eval()
    randomise(ours)
    config = DPTConfig(fusion_hidden_size=16, hidden_size=32, num_attention_heads=2, add_projection=False)
    theirs = DPTDepthEstimationHead(config).eval()
    for index, part in ((0, ours.widen), (2, ours.narrow), (4, ours.conv_depth)):
        assert part is not None
        theirs.head[index].load_state_dict(part.state_dict())
    maps = torch.randn(2, 16, 8, 12)
    ours.decoder.forward = lambda levels: maps  # type: ignore[method-assign,assignment]
    with torch.no_grad():
        expected = theirs([maps])
        torch.testing.assert_close(ours([]), expected + 0.25, rtol=1e-5, atol=1e-5)
    assert (expected > 0).any()


def mmseg_names(name: str) -> str:
    """What mmseg, and so the released code, calls a weight of our decoder."""
    part, index, *rest = name.split(".")
    if part == "reassemble":
        names = {
            "readout": f"reassemble_blocks.readout_projects.{index}",
            "project": f"reassemble_blocks.projects.{index}.conv",
            "resize": f"reassemble_blocks.resize_layers.{index}",
        }
        return ".".join([names[rest[0]], *rest[1:]])
    if part == "convs":
        return f"convs.{index}.conv.{rest[0]}"
    if part == "project":
        return f"project.{'conv' if index == '0' else 'bn'}.{rest[0]}"
    if rest[0] == "project":
        return f"fusion_blocks.{index}.project.conv.{rest[1]}"
    unit = {"skip": "res_conv_unit1", "unit": "res_conv_unit2"}[rest[0]]
    kind = "conv" if rest[1].startswith("conv") else "bn"
    return f"fusion_blocks.{index}.{unit}.conv{rest[1][-1]}.{kind}.{rest[2]}"


@pytest.mark.parametrize("norm", ["BN", None])
def test_the_decoder_equals_mmsegs(norm: str | None) -> None:
    """mmseg's ``DPTHead`` ends in classes, of which one is enough to be a linear depth."""
    dpt_head = pytest.importorskip("mmseg.models.decode_heads.dpt_head")
    torch.manual_seed(0)
    ours = DPTDepthHead(32, WIDTHS, 16, norm=norm).eval().double()
    randomise(ours)
    with DefaultScope.overwrite_default_scope("mmseg"):
        theirs = dpt_head.DPTHead(
            embed_dims=32,
            post_process_channels=list(WIDTHS),
            readout_type="project",
            norm_cfg=None if norm is None else {"type": "BN"},
            in_channels=[32] * 4,
            in_index=[0, 1, 2, 3],
            input_transform="multiple_select",
            channels=16,
            num_classes=2,
            out_channels=1,
            threshold=0.5,
        )
    theirs.eval().double()
    state = {mmseg_names(name): value for name, value in ours.decoder.state_dict().items()}
    state |= {f"conv_seg.{name}": value for name, value in ours.conv_depth.state_dict().items()}
    theirs.load_state_dict(state, strict=True)
    levels = make_levels((4, 6), torch.float64)
    pairs: list[tuple[Tensor, Tensor]] = [(level.maps, level.cls) for level in levels]
    with torch.no_grad():
        torch.testing.assert_close(ours(levels), theirs(pairs)[:, 0])


@pytest.mark.parametrize("width", [384, 768, 1024])
def test_the_number_of_parameters_worked_by_hand(width: int) -> None:
    channels = [width // 8, width // 4, width // 2, width]
    with torch.device("meta"):
        head = DPTDepthHead(width, channels)
    readout = 4 * (2 * width * width + width)
    projections = sum(width * c + c for c in channels)
    resizes = (
        channels[0] ** 2 * 16 + channels[0] + channels[1] ** 2 * 4 + channels[1] + channels[3] ** 2 * 9 + channels[3]
    )
    convs = sum(9 * c * 256 for c in channels)
    unit = 2 * (9 * 256 * 256 + 2 * 256)
    fusion = 7 * unit + 4 * (256 * 256 + 256)
    end = 9 * 256 * 256 + 2 * 256 + 257
    assert sum(p.numel() for p in head.parameters()) == readout + projections + resizes + convs + fusion + end


def test_norms_are_synchronised_where_torch_can() -> None:
    assert isinstance(norm_layer("SyncBN", 4), nn.SyncBatchNorm if torch.cuda.is_available() else nn.BatchNorm2d)
    assert isinstance(norm_layer(None, 4), nn.Identity)
    names = set(nn.SyncBatchNorm(4).state_dict())
    assert set(norm_layer("SyncBN", 4).state_dict()) == set(norm_layer("BN", 4).state_dict()) == names
