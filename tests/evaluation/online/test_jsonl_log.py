from __future__ import annotations

import json
from pathlib import Path

import pytest

from proteus.evaluation.online.jsonl_log import JSONLLog, read_jsonl
from proteus.structures import DataError


def test_a_resumed_run_repeats_no_line(tmp_path: Path) -> None:
    path = tmp_path / "online_eval.jsonl"
    first = JSONLLog(path)
    for iteration in (0, 10, 20):
        first.write(iteration, {"metric": float(iteration)})
    with path.open("a") as file:
        file.write('{"iteration": 30, "met')  # killed while writing
    resumed = JSONLLog(path, 15)
    resumed.write(10, {"metric": -1.0})
    resumed.write(20, {"metric": 2.5})
    assert read_jsonl(path) == [
        {"iteration": 0, "metric": 0.0},
        {"iteration": 10, "metric": 10.0},
        {"iteration": 20, "metric": 2.5},
    ]


def test_a_new_run_replaces_the_file(tmp_path: Path) -> None:
    JSONLLog(tmp_path / "online_eval.jsonl").write(0, {"old": 1.0})
    JSONLLog(tmp_path / "online_eval.jsonl").write(0, {"new": 1.0})
    assert read_jsonl(tmp_path / "online_eval.jsonl") == [{"iteration": 0, "new": 1.0}]


def test_values_that_are_not_finite_are_null(tmp_path: Path) -> None:
    JSONLLog(tmp_path / "online_eval.jsonl").write(0, {"a": float("nan"), "b": float("inf"), "c": 1.5})

    def refuse(word: str) -> None:
        raise AssertionError(word)

    line = json.loads((tmp_path / "online_eval.jsonl").read_text(), parse_constant=refuse)
    assert line == {"iteration": 0, "a": None, "b": None, "c": 1.5}


def test_a_missing_file_has_no_lines() -> None:
    assert read_jsonl("nowhere/online_eval.jsonl") == []


@pytest.mark.parametrize("line", [b"{", b"[]", b"7", b'{"iteration": "3"}', b'{"metric": 1}', b"\xff", b""])
def test_a_damaged_line_raises_and_the_file_is_kept(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "online_eval.jsonl"
    content = b'{"iteration": 0}\n' + line + b'\n{"iteration": 20}\n'
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"online_eval\.jsonl, line 2 is damaged"):
        JSONLLog(path, 20)
    assert path.read_bytes() == content
