from __future__ import annotations

import inspect

import pytest
from mmengine.runner import Runner

from proteus.config import registry_lookup as kinds
from proteus.config import schema as places


def test_every_parameter_of_the_runner_is_known() -> None:
    assert set(inspect.signature(Runner.from_cfg).parameters) == {"cfg"}
    assert set(inspect.signature(Runner.__init__).parameters) - {"self"} <= places.KNOWN


@pytest.mark.parametrize(
    ("value", "loop", "key"),
    [
        ({"by_epoch": True}, "EpochBasedTrainLoop", "max_epochs"),
        ({"by_epoch": False}, "IterBasedTrainLoop", "max_iters"),
        ({"max_iters": 1}, "IterBasedTrainLoop", "max_iters"),
    ],
)
def test_the_loop_decides_the_keys_of_train_cfg(value: dict[str, object], loop: str, key: str) -> None:
    schema = places.top_place("train_cfg").schema
    assert schema is not None
    known = schema(value)
    assert known is not None
    label, keys = known
    assert label == loop
    assert keys.required[key]
    assert not {"runner", "dataloader"} & set(keys.required)


def test_the_kind_follows_the_way() -> None:
    dataset = places.top_place("val_dataloader").into("dataset", {})
    assert dataset.kinds == (kinds.DATASET,)
    assert dataset.into("datasets", []).into("pipeline", []).kinds == (kinds.TRANSFORM,)
    assert places.top_place("default_hooks").into("anything", {}).kinds == (kinds.HOOK,)
    assert places.top_place("model").into("objectives", {}).into("token", {}).kinds[0] is kinds.MODEL
    assert places.top_place("optim_wrapper").into("optimizer", {}).kinds == (kinds.OPTIMIZER,)
    assert places.top_place("optim_wrapper").into("one", {}).into("optimizer", {}).kinds == (kinds.OPTIMIZER,)
    assert places.top_place("my_variable").kinds is kinds.ALL


def test_clipping_by_value_takes_other_keys() -> None:
    place = places.top_place("optim_wrapper").into("clip_grad", {})
    assert place.schema is not None
    by_norm, by_value = place.schema({}), place.schema({"type": "value"})
    assert by_norm is not None
    assert by_value is not None
    assert "max_norm" in by_norm[1].required
    assert "clip_value" in by_value[1].required


def test_a_student_of_several_takes_what_a_distiller_takes_for_one() -> None:
    student = places.top_place("model").into("students", {}).into("tiny", {})
    assert student.schema is not None
    known = student.schema({"student": {}})
    assert known is not None
    assert {"student", "objectives", "init_from"} <= known[1].required.keys()
    assert not {"teacher", "data_preprocessor"} & known[1].required.keys()
    assert student.schema({"width": 3}) is None  # of another model, which may mean something else
