import math
from pathlib import Path
from typing import Any

import pytest

from proteus.config import registry_lookup as k
from proteus.config.range_table import rule_for


@pytest.mark.parametrize(
    ("label", "kind", "key", "right", "wrong"),
    [
        ("DataLoader", None, "num_workers", [0, 512], [-1, 513, 2.0, True, None]),
        ("randomness", None, "seed", [0, 2**32 - 1, None], [-1, 2**32, "0"]),
        ("CheckpointHook", k.HOOK, "interval", [1, -1], [0, -2]),
        ("LoggerHook", k.HOOK, "interval", [1], [0, -1]),
        ("EMAHook", k.HOOK, "priority", [0, 100, "LOW"], [-1, 101, "low"]),
        ("SGD", k.OPTIMIZER, "momentum", [0, 0.9], [1, -0.1, math.nan]),
        ("MultiStepLR", k.SCHEDULER, "milestones", [[1, 2]], [[2, 1], [1, 1], [-1], 3]),
        ("LogProcessor", None, "mean_pattern", [r"loss.*", None], ["("]),
        ("config", None, "work_dir", ["runs", Path("runs")], ["", " ", 3]),
    ],
)
def test_ranges_of_mmengine_and_torch(
    label: str, kind: k.Kind | None, key: str, right: list[Any], wrong: list[Any]
) -> None:
    rule = rule_for(label, kind, key, ours=False)
    assert rule is not None
    assert [value for value in right if not rule.accepts(value)] == []
    assert [value for value in wrong if rule.accepts(value)] == []


@pytest.mark.parametrize(
    ("label", "key", "right", "wrong"),
    [
        ("UniformMask", "ratio", [0.5, (0.1, 0.5), [0.5, 0.5]], [1.5, (0.5, 0.1), (0.1,), None]),
        ("LoadRandomResizedCrop", "crop_ratio_range", [(0.08, 1.0)], [(1.0, 0.08), (0, 1), (0.5, 1.5), 0.5]),
        ("CutDepth", "max_width", [0, 1], [1.1, "1"]),
        ("AnyOfOurs", "drop_path_rate", [0, 0.5], [1, -0.1]),
    ],
)
def test_ranges_of_our_parts(label: str, key: str, right: list[Any], wrong: list[Any]) -> None:
    rule = rule_for(label, k.TRANSFORM, key, ours=True)
    assert rule is not None
    assert [value for value in right if not rule.accepts(value)] == []
    assert [value for value in wrong if rule.accepts(value)] == []


def test_a_pair_of_sides_is_answered_with_the_schedule_that_takes_one() -> None:
    for label in ("LoadRandomResizedCrop", "RandomResizedCrop"):
        rule = rule_for(label, k.TRANSFORM, "scale", ours=True)
        assert rule is not None
        assert not rule.accepts((224, 448))
        assert rule.expected.startswith("a positive integer up to 16384 (for height and width, write ")
        assert "batch_sampler=dict(type='ResolutionBatchSampler', stages=[dict(size=(HEIGHT, WIDTH))])" in rule.expected


def test_ranges_by_type_override_those_by_kind() -> None:
    by_kind, by_type = (rule_for(label, k.HOOK, "interval", True) for label in ("LoggerHook", "CheckpointHook"))
    assert by_kind is not None
    assert not by_kind.accepts(-1)
    assert by_type is not None
    assert by_type.accepts(-1)


def test_types_of_other_toolboxes_with_the_same_name_have_no_ranges() -> None:
    assert rule_for("CenterCrop", k.TRANSFORM, "crop_size", ours=True) is not None
    assert rule_for("CenterCrop", k.TRANSFORM, "crop_size", ours=False) is None
    assert rule_for("Albu", k.TRANSFORM, "prob", ours=False) is None
    assert rule_for("ViT", None, "not_a_key", ours=True) is None
