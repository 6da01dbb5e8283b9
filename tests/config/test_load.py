from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import DictAction

from proteus.config.load import load_config, read_config
from proteus.registry import MODELS
from proteus.structures import ConfigError

CONFIGS = sorted(Path(__file__).parents[2].glob("configs/proteus/*.py"))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = "toy_extension"
    (tmp_path / f"{name}.py").write_text(
        "from proteus.registry import MODELS\n\n\n@MODELS.register_module()\nclass ToyCosine:\n"
        "    def __init__(self, margin=0.0):\n        pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)
    MODELS.module_dict.pop("ToyCosine", None)


def test_overrides_of_the_command_line_are_merged(good: dict[str, Any], write: Callable[..., Path]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    options = ["model.objectives.token.weight=2.5", "param_scheduler.0.end=7", "default_hooks.ema.type=EMAHook"]
    overrides = parser.parse_args(["--cfg-options", *options]).cfg_options
    config = load_config(write(**good), overrides)
    assert config.model.objectives.token.weight == 2.5
    assert config.param_scheduler[0].end == 7
    assert config.default_hooks.ema == {"type": "EMAHook"}
    assert config.param_scheduler[1].T_max == 5


def test_the_message_starts_with_the_file(good: dict[str, Any], write: Callable[..., Path]) -> None:
    path = write(**good)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {"model.objectivs.token.weight": 1})
    assert str(caught.value).startswith(f"{path}: override model.objectivs.token.weight: ")
    assert "\n" not in str(caught.value)
    assert "'objectives'" in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_base_and_delete_work(good: dict[str, Any], write: Callable[..., Path]) -> None:
    write("base.py", **good)
    child = {
        "_base_": ["./base.py"],
        "optim_wrapper": {"optimizer": {"_delete_": True, "type": "SGD", "lr": 0.1, "weight_decay": 0}},
        "model": {"objectives": {"patch": None, "new": {"_delete_": True, **good["model"]["objectives"]["patch"]}}},
    }
    config = load_config(write("child.py", **child))
    assert config.optim_wrapper.optimizer == {"type": "SGD", "lr": 0.1, "weight_decay": 0}
    assert config.optim_wrapper.clip_grad.max_norm == 3.0
    assert "_delete_" not in config.model.objectives.new
    assert config.model.objectives.patch is None


def test_a_missing_file_or_base_suggests_the_nearest(good: dict[str, Any], write: Callable[..., Path]) -> None:
    path = write("vit-s_dinov2-b.py", **good)
    with pytest.raises(ConfigError, match=r"did you mean '.*vit-s_dinov2-b\.py'"):
        load_config(path.with_name("vit-s_dinov2_b.py"))
    child = write("child.py", _base_=["./vit-s_dinov2-c.py"])
    with pytest.raises(ConfigError, match=r"_base_.*did you mean '.*vit-s_dinov2-b\.py'"):
        load_config(child)


def test_syntax_error_names_file_and_line(write: Callable[..., Path]) -> None:
    path = write("broken.py", head="a = 1\nmodel = dict(")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert "line 2" in str(caught.value)


def test_custom_imports_register_parts(good: dict[str, Any], write: Callable[..., Path], module: str) -> None:
    good["model"]["objectives"]["token"]["loss"] = {"type": "ToyCosine", "margn": 1}
    with pytest.raises(ConfigError, match="ToyCosine"):
        load_config(write(**good))
    good["custom_imports"] = {"imports": [module]}
    with pytest.raises(ConfigError, match=r"loss\.margn: .*'margin'"):
        load_config(write(**good))
    good["model"]["objectives"]["token"]["loss"] = {"type": "ToyCosine", "margin": 1}
    load_config(write(**good))


def test_custom_import_that_fails_names_module_and_config(good: dict[str, Any], write: Callable[..., Path]) -> None:
    good["custom_imports"] = {"imports": ["no.such.module"]}
    path = write(**good)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert "no.such.module" in str(caught.value)
    assert str(path) in str(caught.value)
    assert "PYTHONPATH" in str(caught.value)
    with pytest.warns(UserWarning, match=r"no\.such\.module"):
        load_config(path, {"custom_imports.allow_failed_imports": True})


def test_pure_python_config_with_classes(good: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "lazy.py"
    text = "from mmengine.hooks import CheckpointHook\nfrom torch.optim import AdamW\n"
    text += "default_hooks = dict(checkpoint=dict(type=CheckpointHook, {key}=3))\n"
    path.write_text(text.format(key="interval"))
    load_config(path, {"default_hooks.checkpoint.max_keep_ckpts": 1})
    path.write_text(text.format(key="intervl"))
    with pytest.raises(ConfigError, match="'interval'"):
        load_config(path)
    path.write_text(text.format(key="interval").replace("torch.optim", "torch.optimm").replace("3)", "3), o=AdamW"))
    with pytest.raises(ConfigError, match=r"torch\.optimm"):
        load_config(path)


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_configs_of_the_repository_are_valid(path: Path) -> None:
    load_config(path)
    with pytest.raises(ConfigError, match=r"override model\.teachr\.img_size: .*'teachers?'"):
        load_config(path, {"model.teachr.img_size": 1})


def write_files(folder: Path, **texts: str) -> Path:
    """Write config files, with ``a_py`` for ``a.py``; return the path of the first."""
    paths = [folder / ".".join(name.rsplit("_", 1)) for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text)
    return paths[0]


def problem_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("child_py", "_base_ = 'base.py'\na = dict(y=3)"),
        ("child_yaml", "_base_: base.json\na: {y: 3}"),
        ("child_json", '{"_base_": ["base.json"], "a": {"y": 3}}'),
    ],
)
def test_a_config_overrides_its_base(name: str, text: str, tmp_path: Path) -> None:
    path = write_files(tmp_path, **{name: text}, base_py="a = dict(x=1, y=2)", base_json='{"a": {"x": 1, "y": 2}}')
    assert read_config(path).to_dict() == {"a": {"x": 1, "y": 3}}


def test_a_key_that_a_dict_has_twice_is_named(tmp_path: Path) -> None:
    text = 'x = {\n    "a": 1,\n    "b": {"a": 2},\n    "a": 3,\n}\n'
    problem = "line 4: the key 'a' is on line 2 of the same dict as well; rename or remove one"
    base = write_files(tmp_path, base_py=text)
    path = write_files(tmp_path, child_py="_base_ = 'base.py'")
    for file in (base, path):
        assert problem_of(file) == problem
    with pytest.raises(ConfigError, match=r"base\.py"):
        read_config(path)


def test_a_cycle_of_bases_is_named(tmp_path: Path) -> None:
    path = write_files(tmp_path, a_py="_base_ = 'b.py'", b_py="_base_ = 'a.py'")
    assert problem_of(path) == f"_base_ leads back to itself: {path} -> {tmp_path / 'b.py'} -> {path}"


def test_a_missing_base_is_named_with_the_nearest_file(tmp_path: Path) -> None:
    path = write_files(tmp_path, a_py="_base_ = 'runtme.py'", runtime_py="x = 1")
    missing, near = tmp_path / "runtme.py", tmp_path / "runtime.py"
    assert problem_of(path) == f"_base_: no such config file: '{missing}'; did you mean '{near}'?"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a_py", "x = 1\ny = 1 / 0", "line 2: ZeroDivisionError: division by zero"),
        ("a_py", "x = 1\ny = (", "syntax error on line 2: '(' was never closed"),
        ("a_py", "raise SystemExit(3)", "line 1: ends the process"),
        ("a_py", " \n", "the file is empty; a config starts with _base_ or model"),
        ("a_py", "_base_ = 3", "_base_: found 3, expected the name of a config file, or a list of names"),
        ("a_txt", "x = 1", "unknown suffix '.txt'; a config file is one of .py, .yaml, .yml, .json"),
        ("a_py", "_base_ = 'nothere::x.py'", "_base_: 'nothere::x.py': the package 'nothere' is not installed"),
    ],
)
def test_a_broken_file_is_named_with_its_line(name: str, text: str, words: str, tmp_path: Path) -> None:
    assert problem_of(write_files(tmp_path, **{name: text})) == words


def test_a_data_config_runs_no_python(tmp_path: Path) -> None:
    path = write_files(tmp_path, a_yaml="_base_: b.py", b_py=f"open({str(tmp_path / 'canary')!r}, 'w')")
    assert problem_of(path).startswith("_base_: 'b.py' is Python, which a .yaml config may not run")
    assert not (tmp_path / "canary").exists()


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes("x = 1\ny = 'ü'".encode("latin-1"))
    assert problem_of(path) == "line 2 is not UTF-8; save the file in that encoding"
