from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mmengine.registry import MODELS as ROOT
from mmengine.registry import Registry

from proteus.config import registry_lookup as kinds
from proteus.config.suggestions import nearest_names


@pytest.fixture
def toolbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A toolbox with a registry that is empty until the first look-up."""
    package = tmp_path / "toybox"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "registry.py").write_text(
        "from mmengine.registry import MODELS as ROOT\nfrom mmengine.registry import Registry\n"
        "MODELS = Registry('model', parent=ROOT, scope='toybox', locations=['toybox.models'])\n"
        "EXTRAS = Registry('extra', scope='toybox', locations=['toybox.models'])\n"
    )
    (package / "models.py").write_text(
        "from toybox.registry import EXTRAS, MODELS\n"
        "@MODELS.register_module()\nclass ToyNet:\n    pass\n"
        "@EXTRAS.register_module()\nclass ToyMixup:\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "toybox"
    ROOT.children.pop("toybox", None)
    for name in [name for name in sys.modules if name.split(".")[0] == "toybox"]:
        del sys.modules[name]


def test_a_scope_is_imported_on_use(toolbox: str) -> None:
    found = kinds.find("ToyNet", toolbox, (kinds.MODEL,))
    assert found is not None
    assert found.kind is kinds.MODEL
    assert found.target.__name__ == "ToyNet"
    assert kinds.find("ToyNet", "mmengine", (kinds.MODEL,)) is None
    assert kinds.find("toybox.ToyNet", "proteus", (kinds.MODEL,)) is not None
    assert nearest_names("ToyNte", "mmengine", (kinds.MODEL,))[0] == "toybox.ToyNet"


def test_parts_of_the_root_are_found_from_any_scope(toolbox: str) -> None:
    assert kinds.find("AdamW", toolbox, (kinds.OPTIMIZER,)) is not None
    assert kinds.find("torch.optim.AdamW", toolbox, (kinds.OPTIMIZER,)) is not None
    assert kinds.find("torch.optim.Nothing", toolbox, (kinds.OPTIMIZER,)) is None


def test_registries_without_a_root_are_searched_if_the_kind_is_open(toolbox: str) -> None:
    found = kinds.find("ToyMixup", toolbox, kinds.ALL)
    assert found is not None
    assert found.kind is None
    assert kinds.find("ToyMixup", toolbox, (kinds.MODEL,)) is None


def test_the_error_of_a_scope_that_cannot_be_imported_names_the_package(toolbox: str, tmp_path: Path) -> None:
    with pytest.raises(kinds.ScopeError, match=r"pip install no_toolbox"):
        kinds.find("X", "no_toolbox", (kinds.MODEL,))
    (tmp_path / "toybox" / "registry.py").write_text("raise AssertionError('wrong version')\n")
    with pytest.raises(kinds.ScopeError, match="wrong version"):
        kinds.find("X", toolbox, (kinds.MODEL,))


def test_parts_that_cannot_be_imported_are_reported(toolbox: str, tmp_path: Path) -> None:
    (tmp_path / "toybox" / "models.py").write_text("import no_such_dependency\n")
    with pytest.raises(kinds.ScopeError, match="no_such_dependency"):
        kinds.find("ToyNet", toolbox, (kinds.MODEL,))


def test_an_empty_registry_is_found() -> None:
    empty = Registry("model", parent=ROOT, scope="toyempty")
    try:
        assert kinds.find("ToyNet", "toyempty", (kinds.MODEL,)) is None
        kinds.import_scope("toyempty")  # known, although it is empty
        assert len(empty) == 0
    finally:
        ROOT.children.pop("toyempty")
