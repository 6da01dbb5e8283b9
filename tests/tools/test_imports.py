"""What each tool imports before it knows its arguments, measured in fresh interpreters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proteus import apis
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
    "slice": LIGHT,
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
    "pack": LIGHT,
    "cache": LIGHT,
    "config": LIGHT,
}
# Prints the measurements of one interpreter, line by line, each taken in a fork: ``import proteus`` after torch in
# seconds; whether ``import proteus.apis`` imports the training; and what each tool and verb of a list imports. Those
# that may import the libraries for images come last, and get them from the interpreter.
PROBE = """
import contextlib, io, json, os, runpy, sys, time, traceback
import torch

def in_fork(measure, *arguments):
    if os.fork() == 0:
        try:
            print(json.dumps(measure(*arguments)), flush=True)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.wait()

def seconds():
    start = time.process_time()
    import proteus
    return time.process_time() - start

def training_is_imported():
    import proteus.apis
    return "proteus.apis.training" in sys.modules

def imported(tool):
    path, *verb = tool.split()
    sys.argv = [path, *verb, "--help"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        if path == "proteus":
            runpy.run_module("proteus", run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(path, run_name="__main__")
    modules = [name for name in sys.modules if name.split(".")[0] == "proteus"]
    return [name for name in heavy if name in sys.modules], len(modules)

heavy, allowed, tools = map(json.loads, sys.argv[1:])
in_fork(seconds)
in_fork(training_is_imported)
import mmengine
for tool in tools:
    for package in allowed[tool]:
        import proteus  # first, for what it repairs in torchvision
        __import__(package)
    in_fork(imported, tool)
"""
ROWS = {f"tools/{name}": row for name, row in ALLOWED.items() if (ROOT / "tools" / name).is_file()}
ROWS |= {f"proteus {verb}": row for verb, row in ALLOWED_VERBS.items()}
ROWS = dict(sorted(ROWS.items(), key=lambda row: bool(row[1][0])))


@pytest.fixture(scope="module")
def measured() -> list[Any]:
    """What the probe finds in a fresh interpreter."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    allowed = {name: sorted(packages) for name, (packages, _) in ROWS.items()}
    command = [sys.executable, "-c", PROBE, *map(json.dumps, (HEAVY, allowed, list(ROWS)))]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(found) == 2 + len(ROWS), result.stderr
    return found


def test_every_tool_and_verb_has_a_row() -> None:
    tools = {str(path.relative_to(ROOT / "tools")) for path in (ROOT / "tools").rglob("*.py")}
    assert tools <= set(ALLOWED)
    assert {*VERBS, ""} == set(ALLOWED_VERBS)


@pytest.mark.slow
def test_help_imports_no_more_than_the_table_allows(measured: list[Any]) -> None:
    for (name, (packages, modules)), (imported, count) in zip(ROWS.items(), measured[2:], strict=True):
        assert set(imported) <= packages, f"{name} imports {sorted(set(imported) - packages)}"
        assert count <= modules, f"{name} imports {count} modules of proteus, at most {modules} expected"


def test_import_proteus_takes_less_than_a_second_after_torch(measured: list[Any]) -> None:
    assert measured[0] < 1


def test_names_of_apis_are_imported_when_first_used(measured: list[Any]) -> None:
    assert measured[1] is False
    assert all(hasattr(apis, name) for name in apis.__all__)
    assert callable(apis.train)
