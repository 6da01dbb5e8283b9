from __future__ import annotations

import re
from pathlib import Path

import pytest
from runs import RECIPE, tool, trained

pytestmark = pytest.mark.slow


def test_a_check_reports_costs_and_missing_files_and_writes_nothing(tmp_path: Path) -> None:
    """tests/configs/test_metafile.py has the figures of each recipe."""
    output = trained("train.py", RECIPE, "--check", "--work-dir", tmp_path / "run")
    assert re.search(r"teacher +21\.63 M parameters, 12\.2 GFLOPs", output)
    assert re.search(r"student +5\.5\d M parameters, [\d.]+ GFLOPs", output)
    assert re.search(r"about [\d.]+ GiB in bfloat16, [\d.]+ in float32", output)
    assert "data/imagenet/train" in output
    assert "checkpoints/dinov2_vits14" in output
    assert not (tmp_path / "run").exists()


def test_a_wrong_key_fails_the_check() -> None:
    done = tool("train.py", RECIPE, "--check", "--cfg-options", "model.objectivs.token.weight=1")
    assert done.returncode == 2
    assert "'objectives'" in done.stderr
