"""What each tool imports before it knows its arguments, measured in fresh interpreters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proteus.cli import VERBS

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("PIL", "cv2", "matplotlib", "mmcv", "mmpretrain", "mmseg", "onnx", "pandas", "pyarrow", "sklearn", "timm")
HEAVY += ("torchvision", "transformers")
DATA = {"PIL", "cv2", "timm", "torchvision"}
LIGHT: tuple[set[str], int] = (set(), 24)  # arguments, and running a command; no models, no data sets
# For each tool: heavy packages that it may import for --help, and the maximum number of modules of proteus.
ALLOWED: dict[str, tuple[set[str], int]] = {
    "config_table.py": (set(), 0),
    "cache_teacher.py": LIGHT,
    "evaluate.py": LIGHT,
    "infer.py": LIGHT,
    "inspect_checkpoint.py": LIGHT,
    "pack_shards.py": LIGHT,
    "quickstart.py": LIGHT,
    "test.py": LIGHT,
    "train.py": LIGHT,
    "convert_checkpoint.py": (set(), 40),
    "dataset_converters/ade20k.py": (DATA, 120),
    "dataset_converters/nyu.py": (DATA, 120),
    "generate_imagenet_c.py": (DATA, 120),
}
# The same for ``python -m proteus VERB``; the row "" is ``proteus --help``.
ALLOWED_VERBS: dict[str, tuple[set[str], int]] = {
    "": (set(), 6),
    "distill": LIGHT,
    "train": LIGHT,
    "check": LIGHT,
    "test": LIGHT,
    "evaluate": LIGHT,
    "embed": LIGHT,
    "infer": LIGHT,
    "models": LIGHT,
    "inspect": LIGHT,
    "convert": (set(), 40),
    "export": LIGHT,
    "config": LIGHT,
}
# Runs each tool and verb of a list in a fork, so that torch and MMEngine are imported once.
PROBE = """
import contextlib, io, json, os, runpy, sys
import torch, mmengine

heavy, *tools = sys.argv[1:]
for tool in tools:
    sys.stdout.flush()
    if os.fork() == 0:
        path, *verb = tool.split()
        sys.argv = [path, *verb, "--help"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            if path == "proteus":
                runpy.run_module("proteus", run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(path, run_name="__main__")
        modules = [name for name in sys.modules if name.split(".")[0] == "proteus"]
        packages = [name for name in heavy.split(",") if name in sys.modules]
        print(json.dumps([packages, len(modules)]), flush=True)
        os._exit(0)
    os.wait()
"""


def run(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter, and return what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_tool_and_verb_has_a_row() -> None:
    tools = {str(path.relative_to(ROOT / "tools")) for path in (ROOT / "tools").rglob("*.py")}
    assert tools <= set(ALLOWED)
    assert {*VERBS, ""} == set(ALLOWED_VERBS)


@pytest.mark.slow
def test_help_imports_no_more_than_the_table_allows() -> None:
    rows = {f"tools/{name}": row for name, row in ALLOWED.items() if (ROOT / "tools" / name).is_file()}
    rows |= {f"proteus {verb}": row for verb, row in ALLOWED_VERBS.items()}
    found = [json.loads(line) for line in run(PROBE, ",".join(HEAVY), *rows).splitlines()]
    for (name, (packages, modules)), (imported, count) in zip(rows.items(), found, strict=True):
        assert set(imported) <= packages, f"{name} imports {sorted(set(imported) - packages)}"
        assert count <= modules, f"{name} imports {count} modules of proteus, at most {modules} expected"


def test_import_proteus_takes_less_than_a_second_after_torch() -> None:
    code = "import time, torch; start = time.process_time(); import proteus; print(time.process_time() - start)"
    assert float(run(code)) < 1


def test_names_of_apis_are_imported_when_first_used() -> None:
    code = """
import sys, proteus.apis
before = "proteus.apis.training" in sys.modules
from proteus.apis import __all__ as names
print(before, all(hasattr(proteus.apis, name) for name in names), callable(proteus.apis.train))
"""
    assert run(code).split() == ["False", "True", "True"]
