"""Names of code in the guides exist: types in configs, classes, modules and config keys."""

import ast
import re
from functools import cache
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
from markdown_pages import GUIDES, ROOT, blocks, inline_code, name
from mmengine.registry import Registry

from proteus import registry
from proteus.apis import load_config

# Classes of other packages and of examples.
OTHERS = {
    "AutoModel",
    "BaseMetric",
    "BaseTransform",
    "Hook",
    "ImageClassifier",
    "ImageNet",
    "LayerNorm",
    "LogCosh",
    "MyST",
    "MySet",
    "NumPy",
    "OpenCV",
    "SmallCNN",
    "TensorboardVisBackend",
    "TimmWrapperModel",
    "TorchScript",
    "ViTModel",
    "VisionTransformer",
}
CONFIG = ROOT / "configs/proteus/vit-s_dinov2-b.py"


def code(page: Path) -> list[tuple[int, str]]:
    return [*inline_code(page), *((block.line, block.text) for block in blocks(page, "python", "bash"))]


def registries() -> list[Registry]:
    return [each for each in vars(registry).values() if isinstance(each, Registry)]


@cache
def registered() -> set[str]:
    """Names in the registries and in MMEngine's."""
    found = set()
    for each in registries():
        each.import_from_location()
        found |= set(each.module_dict) | set(each.parent.module_dict if each.parent else ())
    return found


@cache
def defined() -> set[str]:
    """Names of classes and functions in the package, the tools and the projects."""
    files = [path for folder in ("proteus", "tools", "projects") for path in (ROOT / folder).rglob("*.py")]
    pattern = re.compile(r"^\s*(?:class|def) (\w+)", re.MULTILINE)
    return {found for path in files for found in pattern.findall(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_types_are_registered(page: Path) -> None:
    missing = [
        f"{name(page)}:{line}: {kind}"
        for line, text in code(page)
        for kind in re.findall(r"""\btype=["']([\w.]+)["']""", text)
        if kind.removeprefix("proteus.") not in registered() | OTHERS and not re.match(r"mm\w+\.", kind)
    ]
    assert missing == []


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_classes_exist(page: Path) -> None:
    """A word with a capital inside is a class, and so is a capitalised word that stands alone."""
    missing = [
        f"{name(page)}:{line}: {word}"
        for line, text in inline_code(page)
        for word in re.findall(r"(?<![\w./-])[A-Z][a-z]+[A-Z]\w+|^[A-Z][a-z]+$", text)
        if word not in defined() | registered() | OTHERS
    ]
    assert missing == []


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_arguments_of_classes_exist(page: Path) -> None:
    for line, text in inline_code(page):
        call = re.fullmatch(r"([A-Z]\w+)\((\w+=.*)\)", text)
        if not call or call[1] not in registered():
            continue
        (kind,) = {value for each in registries() if (value := each.module_dict.get(call[1]))}
        known = {each for parent in kind.__mro__ for each in signature(parent.__init__).parameters}
        wrong = [word.arg for word in ast.parse(text, mode="eval").body.keywords if word.arg not in known]
        assert wrong == [], f"{name(page)}:{line}: {text}"


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_modules_and_their_attributes_exist(page: Path) -> None:
    for line, text in inline_code(page):
        if not re.fullmatch(r"proteus(\.\w+)+", text):
            continue
        module, _, attribute = text.rpartition(".")
        try:
            found = hasattr(import_module(module), attribute) or import_module(text)
        except ImportError as error:
            pytest.fail(f"{name(page)}:{line}: {error}")
        assert found


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_settings_are_keys_of_a_distillation_config(page: Path) -> None:
    for line, text in inline_code(page):
        words = text.removeprefix("--cfg-options ").split()
        if not all(re.fullmatch(r"(model|default_hooks|auto_scale_lr)(\.\w+)+=[\w.]+", word) for word in words):
            continue
        settings = {word.partition("=")[0]: ast.literal_eval(word.partition("=")[2]) for word in words}
        try:
            load_config(CONFIG, settings)
        except Exception as error:
            pytest.fail(f"{name(page)}:{line}: {text}: {error}")
