"""Constructors name the argument that they refuse."""

from __future__ import annotations

from typing import Any

import pytest

import proteus.models  # noqa: F401
from proteus.datasets import BlockMask, ProxySampler, UniformMask, distill_collate
from proteus.engine import CorruptImageHook
from proteus.registry import MODELS

NAN = float("nan")
WIDTHS = {"in_dim": 8, "out_dim": 4}
HEAD = {"type": "DPTDepthHead", "embed_dims": 8, "post_process_channels": (4, 4, 4, 4), "channels": 8}
WRONG: list[tuple[dict[str, Any], str, list[Any]]] = [
    ({"type": "DistillHead", **WIDTHS}, "in_dim", [0, -8, 8.0, "8", None, True]),
    ({"type": "DistillHead", **WIDTHS}, "out_dim", [-8, 8.0]),
    ({"type": "ClassHead", **WIDTHS}, "out_dim", [0, -8, "4"]),
    ({"type": "LinearClassifier", "in_dim": 8}, "num_classes", [0, -1, 10.5, "10"]),
    ({"type": "LinearClassifier", "in_dim": 8}, "layers", [0, -1, 1.5]),
    ({"type": "SoftLogitsLoss"}, "temperature", [0, -1, NAN, "1"]),
    ({"type": "CrossEntropyLoss"}, "label_smoothing", [-0.1, 1.1, NAN, "0.1"]),
    ({"type": "SmoothL1Loss"}, "beta", [-1, "1", NAN]),
    ({"type": "TokenObjective", "student_dim": 8, "teacher_dim": 4}, "weight", [-1, NAN, "1", None]),
    ({"type": "LabelObjective", "student_dim": 8, "teacher_dim": 4}, "num_classes", [0, -3, 1.5]),
    ({"type": "LogitsObjective", "student_dim": 8, "teacher_dim": 4}, "alpha", [0, 2, "x", NAN]),
    ({"type": "MixupDataPreprocessor"}, "mixup", [-1, NAN, "x"]),
    ({"type": "MixupDataPreprocessor"}, "num_classes", [0, 10.0]),
    ({"type": "DistillDataPreprocessor"}, "std", [(1, 1), (1, 1, 0), 0.5, "abc", (1, 1, NAN)]),
    ({"type": "DistillDataPreprocessor"}, "mean", [None, (0.5,) * 4, ("a", 1, 1)]),
    (HEAD, "embed_dims", [0, -8, 8.5]),
    (HEAD, "channels", [0, 1, "8"]),
    (HEAD, "dropout_ratio", [2, -1, NAN]),
    (HEAD, "post_process_channels", [(4, 4, 4), 4, "four", (4, 4, 4, 0)]),
    (HEAD, "max_depth", [-1, NAN, "10"]),
    ({"type": "SiLogLoss"}, "variance_focus", [2, -1, "x"]),
    ({"type": "SiLogLoss"}, "eps", [0, NAN]),
    ({"type": "GradientLoss"}, "scales", [0, 1.5]),
    ({"type": "TimmBackbone", "arch": "mobilenetv4_conv_small_050"}, "img_size", [0, -64, "64", 64.0]),
    ({"type": "TimmBackbone"}, "arch", [None, 3, "no_such_model"]),
    ({"type": "TimmBackbone", "arch": "mobilenetv4_conv_small_050"}, "drop_path_rate", [2, -1, "x"]),
]


@pytest.mark.parametrize(
    ("config", "name", "value"), [(config, name, value) for config, name, values in WRONG for value in values]
)
def test_models(config: dict[str, Any], name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name) as refused:
        MODELS.build({**config, name: value})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", [UniformMask, BlockMask])
@pytest.mark.parametrize("ratio", [1.5, -0.1, "half", NAN, (0.1,), (0.5, 0.1), None, [0.1, "x"]])
def test_masks(kind: type, ratio: Any) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.ratio="):
        kind(ratio=ratio)
    for side in (0, -14, 14.5, "14"):
        with pytest.raises(ValueError, match="patch_size="):
            kind(patch_size=side)


@pytest.mark.parametrize("probability", [2, -0.5, NAN, "half", None])
def test_share_of_masked_images(probability: Any) -> None:
    with pytest.raises(ValueError, match=r"collate_fn\.probability="):
        distill_collate([], probability=probability)


def test_samplers_and_hooks() -> None:
    for repeats in (0, -1, 1.5, "3", None, True):
        with pytest.raises(ValueError, match=r"sampler\.repeats="):
            ProxySampler(range(8), repeats=repeats)  # type: ignore[arg-type]
    for options in ({"max_share": 2}, {"max_share": NAN}, {"interval": 0}, {"interval": 1.5}, {"few": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            CorruptImageHook(**options)  # type: ignore[arg-type]
