"""Teachers that each one of two processes holds, for the images of both."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from runs import write_teacher
from several_teachers import LARGER, OBJECTIVES, SECOND, SIZE, STUDENT, batch, fill
from two_ranks import on_two_ranks

from proteus.datasets.teacher_cache import StaleCacheError
from proteus.engine import DataParallel
from proteus.engine.hooks.teacher_cache import check_usable
from proteus.models import MultiTeacherDistiller
from proteus.structures import UserError

OPTIONS = dict(micro_batches=2, balance=dict(type="LossMagnitudeBalance"))


def teachers(folder: str | None = None) -> dict[str, Any]:
    """Two teachers with weights in a folder, both dropped at times, one with running statistics."""
    own = {"first": dict(**SIZE, embed_dim=32, num_heads=4), "second": LARGER}
    files = {name: None if folder is None else f"{folder}/{name}.safetensors" for name in own}
    first = dict(type="Teacher", backbone=dict(own["first"], checkpoint=files["first"]))
    second = dict(SECOND, backbone=dict(LARGER, checkpoint=files["second"]))
    standardization = dict(type="PHIStandardization", images=0, steps=3)
    return dict(
        first=dict(teacher=first, objectives=OBJECTIVES, drop=0.4),
        second=dict(teacher=second, objectives=OBJECTIVES, drop=0.4, standardization=standardization),
    )


def built(folder: str | None = None, **options: Any) -> Any:
    configs = teachers(folder)
    if "image_drop" in options:  # which running statistics do not combine with
        configs["second"]["standardization"] = None
    return fill(MultiTeacherDistiller(configs, copy.deepcopy(STUDENT), **options))


def trained(model: Any, steps: range, images: slice) -> list[dict[str, Any]]:
    """Losses and gradients of each step of a process; the weights move far beyond rounding."""
    wrapped, found = DataParallel(model), []
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05))
    for step in steps:
        torch.manual_seed(step)  # for images that a teacher is left out of
        log = wrapped.train_step(batch(step, images), wrapper)
        gradients = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
        found.append({**{name: value.detach() for name, value in log.items()}, **gradients})
    return found


def compare(rank: int, folder: str) -> dict[str, Any]:
    """Train with all teachers in each process and with spread ones, and return what differs."""
    images = slice(8 * rank, 8 * rank + 8)
    plain, spread = built(folder, **OPTIONS), built(folder, spread_teachers=True, **OPTIONS)
    state = copy.deepcopy(plain.state_dict())
    drawn = torch.stack([each.flatten()[0] for each in spread.student.parameters()])
    spread.load_state_dict(state)
    where = {
        name: sorted({each.device.type for each in teacher.backbone.parameters()})
        for name, teacher in spread.teachers_by_name.items()
    }
    logs = [trained(model, range(4), images) for model in (plain, spread)]
    resumed = built(folder, spread_teachers=True, **OPTIONS)
    resumed.load_state_dict(copy.deepcopy(spread.state_dict()))
    later = [trained(model, range(4, 7), images) for model in (plain, resumed)]
    by_image = [built(folder, spread_teachers=spread, image_drop=0.5) for spread in (False, True)]
    by_image[1].load_state_dict(copy.deepcopy(by_image[0].state_dict()))
    predictions = []
    for model in (plain, spread):
        model.load_state_dict(state)
        model.eval()
        with torch.no_grad():
            inputs = model.data_preprocessor(batch(9, images), False)["inputs"]
            found = model(inputs, mode="predict")
            alone = model.teachers_by_name["second"](inputs)  # as hooks ask for it
        keys = [key for key in found[0] if key != "img_path"]
        tokens = {key: torch.stack([each[key] for each in found]) for key in keys}
        predictions.append({**tokens, "alone": alone.patches})
    try:
        uneven = slice(0, 4 + 2 * rank)
        spread.train()(**spread.data_preprocessor(batch(0, uneven), True), mode="loss")
    except UserError as error:
        refused = str(error)
    return {
        "drawn": drawn,
        "where": where,
        "keys": [sorted(model.state_dict()) for model in (plain, spread)],
        "logs": logs,
        "later": later,
        "by_image": [trained(model, range(3), images) for model in by_image],
        "predictions": predictions,
        "refused": refused,
    }


RANK = """
from test_spread_teachers import compare

result = compare(rank, {folder!r})
"""


@pytest.mark.slow
def test_spread_teachers_teach_as_those_of_one_process(tmp_path: Path) -> None:
    write_teacher(tmp_path / "first.safetensors", embed_dim=32, img_size=56, depth=1, num_heads=4)
    sizes = {key: value for key, value in LARGER.items() if key not in ("type", "arch")}
    write_teacher(tmp_path / "second.safetensors", **sizes)
    results = on_two_ranks(RANK.format(folder=str(tmp_path)), __file__, tmp_path)
    # Each process holds one teacher alone: the larger one is the first process's.
    assert [each["where"] for each in results] == [
        {"first": ["cpu"], "second": ["meta"]},
        {"first": ["meta"], "second": ["cpu"]},
    ]
    assert torch.equal(results[0]["drawn"], results[1]["drawn"])
    for found in results:
        assert found["keys"][0] == found["keys"][1]
        terms = {tuple(key for key in log if "/" in key) for log in found["logs"][0]}
        assert len(terms) > 1  # teachers are left out of some steps
        for part in ("logs", "later", "by_image"):
            for plain, spread in zip(*found[part], strict=True):
                assert plain.keys() == spread.keys()
                for name, value in plain.items():
                    torch.testing.assert_close(spread[name], value, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found["predictions"][1], found["predictions"][0], rtol=1e-5, atol=1e-5)
        assert "model.spread_teachers=True needs batches of one shape on all processes, and" in found["refused"]
        assert "4x3x56x56 on 0, 6x3x56x56 on 1: write drop_last=True" in found["refused"]
    assert not torch.equal(results[0]["predictions"][0]["alone"], results[1]["predictions"][0]["alone"])


def test_one_process_or_teacher_goes_without(caplog: pytest.LogCaptureFixture) -> None:
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    try:
        model = built(spread_teachers=True)
    finally:
        logger.removeHandler(caplog.handler)
    assert "model.spread_teachers=True has no effect: there is one process" in caplog.text
    assert model.spread_plan is None
    assert not any(teacher.collective for teacher in model.teachers_by_name.values())
    assert {each.device.type for each in model.teachers["second"].teacher.parameters()} == {"cpu"}


def test_what_does_not_combine_with_it() -> None:
    with pytest.raises(StaleCacheError, match="spreads teachers that run, and those of a teacher cache do not: write"):
        check_usable(built(spread_teachers=True), ["first"])
    sharded = teachers()
    sharded["second"]["teacher"]["shard"] = True
    with pytest.raises(ValueError, match=r"model\.teachers\.second\.teacher\.shard=True spreads the weights of one"):
        MultiTeacherDistiller(sharded, copy.deepcopy(STUDENT), spread_teachers=True)


def test_the_plan_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = MultiTeacherDistiller(teachers(), copy.deepcopy(STUDENT), spread_teachers=True)
    assert "in each group of 2 processes, process 0 holds first" in model.spread_plan.describe()
    images = torch.empty(4, 3, 56, 56, device="meta")
    masks = torch.empty(4, 16, dtype=torch.bool, device="meta")
    assert len(model(images, masks=masks, mode="loss")) == 6
