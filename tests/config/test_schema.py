from __future__ import annotations

import inspect

import pytest
from mmengine.runner import Runner

from proteus.config import registry_lookup as kinds
from proteus.config import schema


def test_every_parameter_of_the_runner_is_known() -> None:
    assert set(inspect.signature(Runner.from_cfg).parameters) == {"cfg"}
    assert set(inspect.signature(Runner.__init__).parameters) - {"self"} <= schema.KNOWN


@pytest.mark.parametrize(
    ("value", "loop", "key"),
    [
        ({"by_epoch": True}, "EpochBasedTrainLoop", "max_epochs"),
        ({"by_epoch": False}, "IterBasedTrainLoop", "max_iters"),
        ({"max_iters": 1}, "IterBasedTrainLoop", "max_iters"),
    ],
)
def test_train_cfg_has_the_keys_of_its_loop(value: dict[str, object], loop: str, key: str) -> None:
    untyped = schema.top_slot("train_cfg").untyped
    assert untyped is not None
    known = untyped(value)
    assert known is not None
    label, keys = known
    assert label == loop
    assert keys.required[key]
    assert not {"runner", "dataloader"} & set(keys.required)


def test_the_position_in_the_config_decides_the_kind() -> None:
    dataset = schema.top_slot("val_dataloader").child("dataset", {})
    assert dataset.kinds == (kinds.DATASET,)
    assert dataset.child("datasets", []).child("pipeline", []).kinds == (kinds.TRANSFORM,)
    assert schema.top_slot("default_hooks").child("anything", {}).kinds == (kinds.HOOK,)
    assert schema.top_slot("model").child("objectives", {}).child("token", {}).kinds[0] is kinds.MODEL
    assert schema.top_slot("optim_wrapper").child("optimizer", {}).kinds == (kinds.OPTIMIZER,)
    assert schema.top_slot("optim_wrapper").child("one", {}).child("optimizer", {}).kinds == (kinds.OPTIMIZER,)
    assert schema.top_slot("my_variable").kinds is kinds.ALL


def test_clip_grad_by_value_has_other_keys() -> None:
    slot = schema.top_slot("optim_wrapper").child("clip_grad", {})
    assert slot.untyped is not None
    by_norm, by_value = slot.untyped({}), slot.untyped({"type": "value"})
    assert by_norm is not None
    assert by_value is not None
    assert "max_norm" in by_norm[1].required
    assert "clip_value" in by_value[1].required


def test_one_of_several_students_takes_a_distillers_keys() -> None:
    student = schema.top_slot("model").child("students", {}).child("tiny", {})
    assert student.untyped is not None
    known = student.untyped({"student": {}})
    assert known is not None
    assert {"student", "objectives", "init_from"} <= known[1].required.keys()
    assert not {"teacher", "data_preprocessor"} & known[1].required.keys()
    assert student.untyped({"width": 3}) is None  # another model's idea of a student
