"""Widths of a small model of mmseg with one of our backbones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope

from proteus.models.segmentor_widths import check_widths
from proteus.registry import MODELS
from proteus.structures import DataError

pytest.importorskip("mmseg")
VIT = {"type": "proteus.DenseViT", "arch": "tiny", "img_size": 56, "embed_dim": 24, "depth": 4, "num_heads": 2}
NORM = {"type": "BN"}


def segmentor(**parts: Any) -> Any:
    init_default_scope("mmseg")
    head = {"type": "UPerHead", "in_channels": [24] * 4, "in_index": [0, 1, 2, 3], "channels": 8, "num_classes": 5}
    model = {
        "type": "EncoderDecoder",
        "backbone": {**VIT, "out_indices": (0, 1, 2, 3)},
        "neck": {"type": "Feature2Pyramid", "embed_dim": 24, "norm_cfg": NORM},
        "decode_head": {**head, "norm_cfg": NORM},
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
    }
    for key, value in parts.items():
        model[key] = {**model[key], **value} if isinstance(value, dict) and model.get(key) else value  # type: ignore[dict-item]
    with torch.device("meta"):
        return MODELS.build(ConfigDict(model))


AUXILIARY = {"type": "FCNHead", "in_index": 2, "channels": 8, "num_convs": 1, "num_classes": 5, "concat_input": False}


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"neck": {"embed_dim": 48}}, r"model\.neck takes 4 maps of width 48.*write model\.neck\.embed_dim=24"),
        ({"backbone": {"out_indices": (1, 3)}}, r"model\.neck takes 4 maps of width 24.*gives \[24, 24\]"),
        ({"decode_head": {"in_channels": [24, 24, 24, 48]}}, r"decode_head\.in_channels=\[24, 24, 24, 24\]"),
        (
            {"auxiliary_head": {**AUXILIARY, "in_channels": 32}},
            r"auxiliary_head\.in_channels does not fit.*write model\.auxiliary_head\.in_channels=24",
        ),
        (
            {"neck": None, "backbone": {"out_indices": (1, 3)}},
            r"decode_head\.in_index = \[0, 1, 2, 3\]: model\.backbone gives 2 maps",
        ),
    ],
)
def test_different_widths_raise(parts: dict[str, Any], words: str) -> None:
    model = segmentor(**parts)
    with pytest.raises(DataError, match=words):
        check_widths(model)


def test_matching_widths_pass() -> None:
    check_widths(segmentor())
    check_widths(segmentor(auxiliary_head={**AUXILIARY, "in_channels": 24}))
    linear = {
        "type": "FCNHead",
        "input_transform": "resize_concat",
        "num_convs": 0,
        "channels": 96,
        "concat_input": False,
    }
    check_widths(segmentor(neck=None, decode_head=linear))
    check_widths(torch.nn.Linear(2, 2))


def test_a_backbone_with_shrinking_maps_needs_no_neck() -> None:
    cnn = {"type": "proteus.DenseTimm", "arch": "test_resnet"}
    model = segmentor()
    model.backbone = MODELS.build(cnn)
    widths = model.backbone.channels
    with pytest.raises(DataError, match=r"or model\.neck=None for a backbone with maps of decreasing size"):
        check_widths(model)
    del model.neck
    model.decode_head.in_channels = list(widths)
    check_widths(model)
