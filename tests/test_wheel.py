"""The wheel holds all that the command needs, and runs from any folder with the packages that it declares."""

from __future__ import annotations

import re
import tarfile
import zipfile
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from typing import Any

import pytest
import torch
from built_wheel import ROOT, build, run_commands
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image
from runs import write_images, write_teacher

from proteus import load_backbone

pytestmark = pytest.mark.slow


def files(folder: str) -> set[str]:
    """Return the files of the checkout below a folder, without those behind links."""
    paths = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in paths}


def declared(*extras: str) -> set[str]:
    """Return the top-level modules of the package's requirements, and of theirs."""
    files = [ROOT / f"requirements/{name}.txt" for name in ("runtime", *extras)]
    lines = [line.split("#")[0].strip() for file in files for line in file.read_text().splitlines()]
    waiting, known = [Requirement(line) for line in lines if line], set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in known or not (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            continue
        known.add(name)
        try:
            waiting += map(Requirement, distribution(name).requires or ())
        except PackageNotFoundError:  # of another platform, or replaced, such as a second OpenCV
            continue
    return {module for module, names in packages_distributions().items() if known & {*map(canonicalize_name, names)}}


def test_the_wheel_holds_package_configs_and_tools(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        parser = ConfigParser()
        parser.read_string(archive.read(entry_points).decode())
        assert dict(parser["console_scripts"]) == {"proteus": "proteus.cli:main"}
        assert b"_base_" in archive.read("proteus/.mim/configs/proteus/vit-s_dinov2-b.py")
    parts = {path for path in files("configs") | files("tools") if path.endswith((".py", ".yml", ".sh"))}
    assert names == files("proteus") | {f"proteus/.mim/{path}" for path in parts}
    assert wheel.stat().st_size < 2e6


def test_a_wheel_of_the_source_archive_is_the_same(wheel: Path, tmp_path: Path) -> None:
    sources = wheel.parents[1] / "sources"
    with tarfile.open(build(sources, tmp_path / "dist", "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("proteus_toolbox-*/setup.py")
    again = build(unpacked.parent, tmp_path / "again")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert set(one.namelist()) == set(other.namelist())


def test_the_command_runs_from_any_folder_with_the_declared_packages(installed_wheel: Path, tmp_path: Path) -> None:
    weights = write_teacher(tmp_path / "teacher.safetensors")
    listed, checked, inspected, train_help = run_commands(
        installed_wheel,
        tmp_path,
        ["config", "list"],
        ["check", "vit-s_dinov2-b"],
        ["inspect", str(weights)],
        ["train", "--help"],
        allowed=sorted(declared("quickstart") | {"proteus"}),
    )
    assert [each.status for each in (listed, checked, inspected, train_help)] == [0, 0, 0, 0], (checked, inspected)
    assert "  vit-s_dinov2-b " in listed.out
    assert f"{installed_wheel}/proteus/.mim/configs/proteus/vit-s_dinov2-b.py: every key is known" in checked.out
    assert "vit" in inspected.out.lower()
    assert train_help.out.startswith("usage: proteus train ")


def test_distill_writes_a_folder_that_every_tool_opens(
    installed_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Distil with the declared packages alone; then run the code of the model card, with the tools that it names."""
    write_images(tmp_path / "photos")
    command = ["distill", "--teacher", "packaged", "--student", "vit_tiny", "--data", "photos", "--out", "student"]
    command += ["--iters", "1", "--img-size", "28", "--workers", "0", "--cfg-options", "custom_hooks.0.views=8"]
    allowed = sorted(declared("quickstart", "export") | {"proteus"})
    (done,) = run_commands(installed_wheel, tmp_path, command, allowed=allowed)
    assert done.status == 0, done.err[-2000:]
    assert "model folder: student" in done.out
    assert "proteus::_base_/distill.py" in (tmp_path / "student/config.py").read_text()

    card = (tmp_path / "student/README.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"\n(\w[^\n]*):\n\n```python\n(.*?)\n```", card, re.DOTALL))
    monkeypatch.chdir(tmp_path / "student")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    Image.effect_noise((60, 40), 50).convert("RGB").save("photo.jpg")
    names: dict[str, Any] = {}
    exec(blocks["Prepare images"], names)
    wanted = load_backbone(tmp_path / "student")(names["images"])
    tools = ["timm", "transformers", "mmpretrain", "mmseg", "ONNX Runtime", "torch.export"]
    for tool in tools:
        (code,) = (text for heading, text in blocks.items() if heading.startswith(tool))
        found: dict[str, Any] = {"images": names["images"]}
        exec(code, found)
        for kind in ("cls", "patches"):
            features = torch.as_tensor(found[kind])
            torch.testing.assert_close(features, getattr(wanted, kind), atol=1e-4, rtol=1e-4, msg=f"{tool}: {kind}")
