"""The converters from the command line, on small archives."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image
from runs import tool

pytestmark = pytest.mark.slow


def encoded(kind: str, image: Image.Image) -> bytes:
    content = BytesIO()
    image.save(content, kind)
    return content.getvalue()


JPEG = encoded("JPEG", Image.new("RGB", (16, 12)))
DEPTH = encoded("PNG", Image.fromarray(np.full((12, 16), 2500, np.uint16)))


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_nyu(tmp_path: Path) -> None:
    train = {"sync/attic_1/rgb_0.jpg": JPEG, "sync/attic_1/sync_depth_0.png": DEPTH}
    test = {"test/attic/rgb_1.jpg": JPEG, "test/attic/sync_depth_1.png": DEPTH}
    sources = ["--train", zipped(tmp_path / "a.zip", train), "--test", zipped(tmp_path / "b.zip", test)]
    out = tmp_path / "nyu"
    done = tool("dataset_converters/nyu.py", out, *sources)
    assert done.returncode == 0, done.stderr
    lines = [line.rpartition(" - WARNING - ")[2] for line in done.stdout.splitlines()]
    assert lines[-4:] == [
        f"NYU Depth V2 (train): 2 files written, 0 were there, in {out}",
        f"NYU Depth V2 (train) {out}: 1 pairs (officially 24,231)",
        f"NYU Depth V2 (test): 2 files written, 0 were there, in {out}",
        f"NYU Depth V2 (test) {out}: 1 pairs (officially 654)",
    ]
    done = tool("dataset_converters/nyu.py", out, *sources, "--check")
    assert done.returncode == 0, done.stderr
    assert f"NYU Depth V2 (train): {out} is complete" in done.stdout.splitlines()
    (out / "attic/rgb_1.jpg").unlink()
    done = tool("dataset_converters/nyu.py", out, *sources, "--check")
    assert done.returncode == 1
    assert f"{out}/attic/rgb_1.jpg is missing" in done.stdout
    done = tool("dataset_converters/nyu.py", out, "--labelled", __file__)
    assert done.returncode == 2
    assert "give both --labelled and --splits" in done.stderr
    path = tmp_path / "a.zip"
    path.write_bytes(path.read_bytes()[:-50])
    done = tool("dataset_converters/nyu.py", out, "--train", path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {path} is not a zip archive")
    assert "Traceback" not in done.stderr
