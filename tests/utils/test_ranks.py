"""Work on the first rank; ``tests/cli/test_embed.py`` starts two ranks."""

from __future__ import annotations

import time
from typing import Any

import pytest

from proteus.structures import UserError
from proteus.utils import ranks


def test_waiting_ranks_hear_of_the_work_until_its_result_or_error(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    def work() -> int:
        time.sleep(0.3)
        return 7

    def fail() -> int:
        time.sleep(0.1)
        raise UserError("broken")

    def receive(news: list[Any]) -> None:
        news[:] = [sent.pop(0)]

    def answer(function: Any) -> int | str:
        try:
            return ranks.on_first_rank(function)
        except UserError as error:
            return str(error)

    monkeypatch.setattr(ranks, "_SECONDS_WITHOUT_NEWS", 0.02)
    for function, outcome in ((work, 7), (fail, "broken")):
        monkeypatch.setattr(ranks, "get_dist_info", lambda: (0, 2))
        monkeypatch.setattr(ranks, "broadcast_object_list", lambda news: sent.extend(news))
        assert answer(function) == outcome
        assert len(sent) > 2
        monkeypatch.setattr(ranks, "get_dist_info", lambda: (1, 2))
        monkeypatch.setattr(ranks, "broadcast_object_list", receive)
        assert answer(function) == outcome
        assert not sent


def test_a_fault_on_the_first_rank_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "get_dist_info", lambda: (0, 2))
    monkeypatch.setattr(ranks, "broadcast_object_list", pytest.fail)
    with pytest.raises(ZeroDivisionError):
        ranks.on_first_rank(lambda: 1 // 0)
