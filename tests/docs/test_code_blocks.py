"""Python in the pages runs: scripts are executed, configs are loaded with every key checked."""

import ast
import sys
from collections.abc import Iterator
from importlib import import_module
from os.path import isfile, normpath
from pathlib import Path
from shutil import copyfile

import pytest
import torch
from markdown_pages import PAGES, ROOT, Block, blocks
from mmengine.registry import Registry
from runs import write_images

from proteus import registry
from proteus.apis import load_config
from proteus.apis.export import export
from proteus.checkpoints import export_backbone
from proteus.models import ViT

SCRIPTS = [block for page in PAGES for block in blocks(page, "python") if "_base_" not in block.text and not block.file]
CONFIGS = [block for page in PAGES for block in blocks(page, "python") if "_base_" in block.text]
MODULES = [block for page in PAGES for block in blocks(page, "python") if "_base_" not in block.text and block.file]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder; what its code registers and imports is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
    ours = {name for name, file in files.items() if file.startswith(str(tmp_path))}
    for each in vars(registry).values():
        if isinstance(each, Registry):
            for key in [key for key, value in each.module_dict.items() if value.__module__ in ours]:
                del each.module_dict[key]
    for module in ours:
        del sys.modules[module]


def write(block: Block, folder: Path) -> Path:
    """Save a block under its path; its relative bases become absolute, as if the folder were the root."""
    path = folder / (block.file or "config.py")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = block.text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "_base_":
            base = ast.literal_eval(node.value)
            if base.startswith("proteus::"):
                continue
            start = (ROOT / block.file).parent if block.file else block.page.parent
            found = [place for place in (normpath(start / base), normpath(ROOT / base)) if isfile(place)]
            assert found, f"{block}: {base} does not exist"
            text = text.replace(f'"{base}"', f'"{found[0]}"')
    path.write_text(text)
    return path


@pytest.mark.parametrize("block", SCRIPTS, ids=str)
def test_scripts_run(block: Block, folder: Path) -> None:
    student = ViT(arch="small", img_size=28, embed_dim=24, depth=1, num_heads=2).eval()
    arguments = dict(student.timm_args)
    about = {"architecture": arguments.pop("model_name"), "arguments": arguments, "mean": [0.5] * 3, "std": [0.5] * 3}
    for name in ("student", "teacher"):
        export_backbone(student.timm_state(), folder / f"{name}.safetensors", about)
    write_images(folder / "photos", 24)
    if "work_dirs/photos" in block.text and "distill(" not in block.text:
        export("student.safetensors", "work_dirs/photos", ["timm", "hf"])
        copyfile(next((folder / "photos").rglob("*.jpg")), "cat.jpg")
    exec(compile(block.text, str(block), "exec"), {"model": student, "images": torch.zeros(2, 3, 28, 28)})


@pytest.mark.parametrize("block", CONFIGS, ids=str)
def test_configs_are_valid(block: Block, folder: Path) -> None:
    for module in MODULES:
        write(module, folder)
    assert load_config(write(block, folder)).model


@pytest.mark.parametrize("block", MODULES, ids=str)
def test_modules_are_imported(block: Block, folder: Path) -> None:
    path = write(block, folder)
    import_module(".".join(path.relative_to(folder).with_suffix("").parts))
