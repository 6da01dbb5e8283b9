from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from proteus.exporters import ExportError, ExportModel
from proteus.exporters.program import write_program

Models = Callable[[str], ExportModel]


def test_any_size(models: Models, tmp_path: Path) -> None:
    model, path = models("registers"), tmp_path / "model.pt2"
    assert write_program(model, path, dynamic_size=True) < 1e-5
    run = torch.export.load(path).module()
    cls, patches = run(model.images(1, (28, 140)))
    assert cls.shape == (1, 48)
    assert patches.shape == (1, 2 * 10, 48)
    assert str(Path(__file__).parents[2]).encode() not in path.read_bytes()  # no paths of this machine


def test_a_model_of_one_size(models: Models, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"torch.export cannot export swin_tiny"):
        write_program(models("windows"), tmp_path / "model.pt2", dynamic_size=True)
    assert list(tmp_path.iterdir()) == []


def test_a_limit_of_file_sizes_does_not_end_the_process(models: Models, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(OSError, match="File too large"):
            write_program(models("layer scale"), tmp_path / "model.pt2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
