"""``tools/infer.py`` in a process: what it prints, and with which status it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from inference_runs import write_picture, write_trained
from runs import tool

pytestmark = pytest.mark.slow


def test_status_and_words(tmp_path: Path) -> None:
    config, checkpoint = write_trained(tmp_path, "depth")
    source = tmp_path / "in"
    for number in range(3):
        write_picture(source / f"{number}.jpg", number)
    done = tool("infer.py", config, checkpoint, source, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f"predictions are in {tmp_path / 'out'}" in done.stdout
    assert "3/3" in done.stderr

    (source / "1.jpg").write_bytes((source / "1.jpg").read_bytes()[:300])
    done = tool("infer.py", config, checkpoint, source, "--out", tmp_path / "second")
    assert done.returncode == 1
    assert f"1 could not be read:\n{source / '1.jpg'}" in done.stderr
    assert {path.name for path in (tmp_path / "second").iterdir()} == {"0.png", "2.png", ".pictures.lock"}

    done = tool("infer.py", config, tmp_path / "gone.pth", source, "--out", tmp_path / "third")
    assert done.returncode == 2
    assert "weights not found" in done.stderr
    assert "Traceback" not in done.stderr
