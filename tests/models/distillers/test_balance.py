from __future__ import annotations

import copy

import pytest
import torch

from proteus.models import LossMagnitudeBalance
from proteus.models.distillers.balance import TeacherDropping


def test_factors_by_hand() -> None:
    balance = LossMagnitudeBalance(["a", "b"], momentum=0.25)
    assert balance("a", torch.tensor(4.0)).item() == 1  # the first step
    balance("a", torch.tensor(8.0))  # another part of the step
    balance.end_step()
    assert balance("b", torch.tensor(0.5)).item() == 1  # its first step
    assert balance("a", torch.tensor(2.0)).item() == pytest.approx(1 / 6)
    balance.end_step()
    assert balance("a", torch.tensor(1.0)).item() == pytest.approx(1 / (0.75 * 6 + 0.25 * 2))
    assert balance("b", torch.tensor(1.0)).item() == pytest.approx(1 / 0.5)
    balance.eval()("a", torch.tensor(100.0))
    assert len(balance._parts) == 2


def test_a_teacher_that_is_absent_keeps_its_mean() -> None:
    balance = LossMagnitudeBalance(["a", "b"], momentum=0.5)
    balance("a", torch.tensor(4.0))
    balance.end_step()
    balance.end_step()
    assert balance.mean.tolist() == [4, 1]
    assert balance.known.tolist() == [True, False]


def test_teachers_are_dropped_with_their_probability() -> None:
    dropping = TeacherDropping({"a": 0.0, "b": 0.25, "c": 0.6})
    steps = []
    for _ in range(4000):
        steps.append(dropping.kept())
        dropping.end_step()
    shares = {name: sum(name in kept for kept in steps) / len(steps) for name in "abc"}
    assert shares["a"] == 1
    assert shares["b"] == pytest.approx(0.75, abs=0.03)
    assert shares["c"] == pytest.approx(0.4, abs=0.03)
    # Independent of each other.
    assert sum({"b", "c"} <= set(kept) for kept in steps) / len(steps) == pytest.approx(0.75 * 0.4, abs=0.03)


def test_one_teacher_is_always_kept_and_the_choice_resumes() -> None:
    dropping, other = (TeacherDropping({"a": 0.9, "b": 0.9}) for _ in range(2))
    steps = []
    for step in range(50):
        steps.append(dropping.kept())
        assert dropping.kept() == steps[-1]  # for each micro-batch
        dropping.end_step()
        if step == 19:
            other.load_state_dict(copy.deepcopy(dropping.state_dict()))
    assert all(steps)
    assert {"a", "b"} <= {name for kept in steps for name in kept}
    for expected in steps[20:]:
        assert other.kept() == expected
        other.end_step()
