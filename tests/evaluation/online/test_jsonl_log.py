from __future__ import annotations

import json
from pathlib import Path

import pytest

from proteus.evaluation.online.jsonl_log import JSONLLog, read_jsonl
from proteus.structures import DataError


def test_a_resumed_run_goes_on_without_doubled_lines(tmp_path: Path) -> None:
    path = tmp_path / "online_eval.jsonl"
    first = JSONLLog(path)
    for iteration in (0, 10, 20):
        first.write(iteration, {"figure": float(iteration)})
    with path.open("a") as file:
        file.write('{"iteration": 30, "fig')  # killed while it wrote
    resumed = JSONLLog(path, 15)
    resumed.write(10, {"figure": -1.0})
    resumed.write(20, {"figure": 2.5})
    assert read_jsonl(path) == [
        {"iteration": 0, "figure": 0.0},
        {"iteration": 10, "figure": 10.0},
        {"iteration": 20, "figure": 2.5},
    ]


def test_a_new_run_starts_anew(tmp_path: Path) -> None:
    JSONLLog(tmp_path / "online_eval.jsonl").write(0, {"old": 1.0})
    JSONLLog(tmp_path / "online_eval.jsonl").write(0, {"new": 1.0})
    assert read_jsonl(tmp_path / "online_eval.jsonl") == [{"iteration": 0, "new": 1.0}]


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    JSONLLog(tmp_path / "online_eval.jsonl").write(0, {"a": float("nan"), "b": float("inf"), "c": 1.5})

    def refuse(word: str) -> None:
        raise AssertionError(word)

    line = json.loads((tmp_path / "online_eval.jsonl").read_text(), parse_constant=refuse)
    assert line == {"iteration": 0, "a": None, "b": None, "c": 1.5}


def test_no_file() -> None:
    assert read_jsonl("nowhere/online_eval.jsonl") == []


@pytest.mark.parametrize("line", [b"{", b"[]", b"7", b'{"iteration": "3"}', b'{"figure": 1}', b"\xff", b""])
def test_a_damaged_line_is_named_and_nothing_is_lost(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "online_eval.jsonl"
    content = b'{"iteration": 0}\n' + line + b'\n{"iteration": 20}\n'
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"online_eval\.jsonl, line 2 is damaged"):
        JSONLLog(path, 20)
    assert path.read_bytes() == content
