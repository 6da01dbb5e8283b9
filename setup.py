"""Packaging of Proteus; the dependencies stand in ``requirements/*.txt``, one file an extra."""

import os
import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def version() -> str:
    """Read the version from its file, since importing the package would need torch in the build environment."""
    text = (ROOT / "proteus" / "version.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if match is None:
        raise RuntimeError('proteus/version.py has no line of the form __version__ = "1.2.3"')
    return match.group(1)


def requirements(name: str) -> list[str]:
    """Return the requirements of ``requirements/<name>.txt`` without comments and blank lines."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    stripped = (line.split("#")[0].strip() for line in lines)
    return [line for line in stripped if line]


def mim_files() -> list[str]:
    """Return the configs and tools, relative to ``proteus``.

    They are part of the package in OpenMMLab's layout: ``proteus/.mim/configs`` and ``proteus/.mim/tools``, which are
    symbolic links in a clone, and copies in a wheel.
    """
    package, found = ROOT / "proteus", ["py.typed", ".mim/model-index.yml"]
    for folder, _, names in os.walk(package / ".mim", followlinks=True):
        if "__pycache__" not in folder:
            paths = (Path(folder, name) for name in sorted(names) if name.endswith((".py", ".sh", ".yml")))
            found += [path.relative_to(package).as_posix() for path in paths]
    return list(dict.fromkeys(found))


EXTRAS = ("quickstart", "dense", "eval", "export", "fast", "shards", "remote", "text", "projects", "tests", "docs")

setup(
    name="proteus-toolbox",
    version=version(),
    description="Distil vision foundation models into small backbones on your images (MMEngine toolbox)",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["proteus", "proteus.*"]),
    package_data={"proteus": ["**/*.txt", "**/*.json", "**/*.tsv", *mim_files()]},
    install_requires=requirements("runtime"),
    extras_require={name: requirements(name) for name in EXTRAS},
    entry_points={"console_scripts": ["proteus = proteus.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
