import importlib
import os
import subprocess
import sys

import mmengine.registry
import pytest
from mmengine.registry import DefaultScope, Registry

from proteus import models, registry

REGISTRIES = {name: value for name, value in vars(registry).items() if isinstance(value, Registry)}


@pytest.mark.parametrize("name", sorted(REGISTRIES))
def test_each_registry_is_a_child_of_mmengines_where_it_has_one(name: str) -> None:
    child = REGISTRIES[name]
    root = getattr(mmengine.registry, name, None)
    assert child.parent is root
    assert root is None or root.children["proteus"] is child
    for location in child._locations:
        importlib.import_module(location)


def test_parts_are_found_from_mmengines_root_and_mmengines_from_ours() -> None:
    assert mmengine.registry.MODELS.get("proteus.ViT") is models.ViT
    assert registry.MODELS.get("ViT") is models.ViT
    assert registry.HOOKS.get("CheckpointHook") is mmengine.registry.HOOKS.get("CheckpointHook")
    assert isinstance(registry.MODELS.build(dict(type="MSELoss")), models.MSELoss)


def test_in_our_scope_names_need_no_prefix() -> None:
    with DefaultScope.overwrite_default_scope("proteus"):
        assert isinstance(mmengine.registry.MODELS.build(dict(type="CosineLoss")), models.CosineLoss)


BARE = """
import sys
sys.modules["mmpretrain"] = sys.modules["mmcv"] = None  # as if they were not installed
import proteus.registry
print("timm" not in sys.modules and "proteus.models" not in sys.modules)
from mmengine.registry import MODELS
print(MODELS.build(dict(type="proteus.MSELoss")))
import proteus.apis
from proteus.models import build_backbone
try:
    build_backbone({"type": "mmpretrain.ResNet", "depth": 18})
except ImportError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def bare() -> list[str]:
    """The lines that a fresh interpreter without other toolboxes prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, "-c", BARE], env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.slow
def test_naming_a_part_is_enough_and_importing_proteus_stays_light(bare: list[str]) -> None:
    assert bare[:2] == ["True", "MSELoss()"]


@pytest.mark.slow
def test_without_the_toolbox_one_line_says_what_to_install(bare: list[str]) -> None:
    (line,) = bare[2:]
    assert line.startswith("mmpretrain cannot be imported")
    assert line.endswith("pip install onedl-mmcv onedl-mmpretrain")
