"""Objects other than weights in checkpoints: harmless types are read, all others refused."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import HistoryBuffer

from proteus.checkpoints import CheckpointError, read_state_dict


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


class Reaching:
    """Calls ``getattr`` for something other than a statistic."""

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (HistoryBuffer, "__init__")


def saved(path: Path, other: Any) -> Path:
    torch.save({"state_dict": {"weight": torch.ones(2)}, "other": other}, path)
    return path


def test_message_hub_and_command_line_are_read(tmp_path: Path) -> None:
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    for other in (history, Namespace(lr=0.1)):
        assert read_state_dict(saved(tmp_path / "x.pth", other))["weight"].tolist() == [1, 1]


def test_code_is_refused_and_not_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="could run code"):
        read_state_dict(saved(tmp_path / "x.pth", Evil(tmp_path / "made")))
    assert not (tmp_path / "made").exists()


def test_getattr_returns_only_statistics(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not opened"):
        read_state_dict(saved(tmp_path / "x.pth", Reaching()))
