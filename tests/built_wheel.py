"""The wheel, built from this checkout and unpacked outside of it; ``tests/conftest.py`` has the fixtures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from shutil import copy2, copytree, ignore_patterns
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CITATION.cff")
_BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
# Runs commands in forks of one process that has imported the package, and writes how each ended.
_COMMANDS = '''
import json, os, sys
from importlib.machinery import PathFinder

commands, allowed = json.loads(sys.argv[1]), json.loads(sys.argv[2])

class Declared:
    """Find modules as usual, but none of those that are installed and not allowed."""

    def __init__(self):
        from importlib.metadata import packages_distributions

        self.absent = set(packages_distributions()) - set(allowed)
        self.finders = list(sys.meta_path)

    def find_spec(self, name, path=None, target=None):
        specs = (finder.find_spec(name, path, target) for finder in self.finders if name not in self.absent)
        return next(filter(None, specs), None)

    find_distributions = staticmethod(PathFinder.find_distributions)

if allowed is not None:
    sys.meta_path[:] = [Declared()]
from proteus.cli import main

ended = []
for number, command in enumerate(commands):
    process = os.fork()
    if process == 0:
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{number}.{name}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), descriptor)
        sys.argv = ["proteus", *command]
        main()
    ended.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
print(json.dumps(ended))
'''


class Ended(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str


def copy_sources(folder: Path) -> Path:
    """Copy what a wheel is made of, so that nothing is written in the checkout."""
    folder.mkdir()
    for name in ("proteus", "configs", "tools", "requirements"):
        copytree(ROOT / name, folder / name, symlinks=True, ignore=ignore_patterns("__pycache__"))
    for name in _FILES:
        copy2(ROOT / name, folder / name)
    return folder


def build(sources: Path, out: Path, kind: str = "wheel") -> Path:
    """Build the wheel, or the source archive (``sdist``), without network; returns the file."""
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-c", _BUILD, f"build_{kind}", str(out)]
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (file,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return file


def unpack(wheel: Path, folder: Path) -> Path:
    """Unpack a wheel into a folder for PYTHONPATH."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def environment(installed: Path) -> dict[str, str]:
    """Return the variables of a process that imports the package from an unpacked wheel, on one thread."""
    return {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run_commands(
    installed: Path, cwd: Path, *commands: Sequence[str], allowed: Sequence[str] | None = None
) -> list[Ended]:
    """Run ``proteus`` from an unpacked wheel.

    Args:
        installed: Folder from :func:`unpack`.
        cwd: Folder to run in.
        commands: Arguments of each command. They run one after the other, in forks of one process.
        allowed: Top-level modules that may be imported, besides the standard library; None for all that are installed.
    """
    line = [
        sys.executable,
        "-c",
        _COMMANDS,
        json.dumps([list(map(str, each)) for each in commands]),
        json.dumps(allowed),
    ]
    done = subprocess.run(line, cwd=cwd, env=environment(installed), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    printed = [[(cwd / f"{number}.{name}").read_text() for name in ("out", "err")] for number in range(len(commands))]
    return [Ended(status, *text) for status, text in zip(json.loads(done.stdout), printed, strict=True)]
