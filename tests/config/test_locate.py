"""Names of the configs that come with Proteus, from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from proteus.apis.evaluate import CONFIGS
from proteus.config.load import load_config, read_config
from proteus.config.locate import config_names, configs_root, locate_config
from proteus.structures import ConfigError

MAIN = "proteus/vit-s_dinov2-b.py"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        locate_config(name)
    (problem,) = caught.value.problems
    assert str(caught.value) == f"{name}: {problem}"
    return problem


@pytest.mark.parametrize(
    "name",
    [
        "vit-s_dinov2-b",
        "vit-s_dinov2-b.py",
        "proteus/vit-s_dinov2-b",
        "proteus/vit-s_dinov2-b.py",
        "configs/proteus/vit-s_dinov2-b.py",
        "proteus::proteus/vit-s_dinov2-b.py",
    ],
)
def test_a_name_is_the_end_of_a_path(name: str) -> None:
    assert locate_config(name) == configs_root() / MAIN


def test_every_config_is_found_by_its_shortest_name() -> None:
    names = config_names()
    assert len(names) == len(set(names.values())) > 50
    assert {name: locate_config(name) for name in names} == names
    assert names["finetune/vit-s"] == configs_root() / "finetune/vit-s.py"
    assert names["vit-s_dinov2-b_token"] == configs_root() / "proteus/ablations/vit-s_dinov2-b_token.py"
    assert not [name for name in names if "_base_" in name]
    assert locate_config("_base_/models/distill_vit.py") == configs_root() / "_base_/models/distill_vit.py"


def test_the_configs_of_all_protocols_are_below_the_root() -> None:
    assert all((configs_root() / path).is_file() for path in CONFIGS.values())


def test_a_file_comes_before_a_name(tmp_path: Path) -> None:
    (tmp_path / "vit-s_dinov2-b.py").write_text("a = 1")
    assert locate_config("vit-s_dinov2-b.py") == Path("vit-s_dinov2-b.py")
    assert locate_config("vit-s_dinov2-b") == configs_root() / MAIN
    assert read_config("vit-s_dinov2-b.py").a == 1


def test_a_name_comes_before_a_folder(tmp_path: Path) -> None:
    (tmp_path / "vit-s_dinov2-b").mkdir()
    (tmp_path / "mine").mkdir()
    assert locate_config("vit-s_dinov2-b") == configs_root() / MAIN
    with pytest.raises(ConfigError, match="mine: is a folder; name a config file in it"):
        read_config("mine")


def test_a_name_of_several_configs_lists_them() -> None:
    assert refused("vit-s") == "several configs have this name; write one of: finetune/vit-s, linear_probe/vit-s"


def test_an_unknown_name_suggests_the_nearest(tmp_path: Path) -> None:
    assert "did you mean 'vit-s_dinov2-b' or " in refused("vit-s_dinov2_b")
    assert refused("xyzzy").endswith("list the names with `proteus config list`")
    (tmp_path / "vit-s_dinov2-mine.py").write_text("a = 1")
    with pytest.raises(ConfigError, match=r"no such config file; did you mean 'vit-s_dinov2-mine\.py'"):
        read_config("vit-s_dinov2-mime.py")  # a file here is nearer than a name


@pytest.mark.parametrize("name", ["", "x" * 300, "a\0b", "../proteus/compat", "/nowhere/vit-s_dinov2-b"])
def test_paths_that_no_config_has_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        read_config(name)


def test_load_config_takes_a_name() -> None:
    cfg = load_config("vit-s_dinov2-b", {"train_dataloader.batch_size": 7})
    assert cfg.train_dataloader.batch_size == 7
    assert cfg.filename == str(configs_root() / MAIN)


def test_parts_can_be_bases_from_anywhere(tmp_path: Path) -> None:
    parts = ["models/distill_vit", "datasets/imagenet", "schedules/deit_300e_1024", "distill_runtime"]
    bases = [f"proteus::_base_/{part}.py" for part in parts]
    text = f"_base_ = {bases}\nmodel = dict(teacher=dict(backbone=dict(arch='base', checkpoint='a.pth')))\n"
    (tmp_path / "mine.py").write_text(text + "model['student'] = dict(arch='small', depth=3)")
    cfg = load_config("mine.py")
    assert (cfg.model.student.depth, cfg.model.student.patch_size) == (3, 14)
    assert Config.fromfile("mine.py").model.student.depth == 3


def test_a_base_of_the_package_gives_the_same_config(tmp_path: Path) -> None:
    hooks = {"custom_hooks": [{"type": "EMAHook"}]}
    text = f'_base_ = "proteus::{MAIN}"\ncustom_hooks = {hooks["custom_hooks"]}'
    (tmp_path / "mine.py").write_text(text)
    assert load_config("mine.py").to_dict() == {**load_config(MAIN).to_dict(), **hooks}


def test_the_scope_of_another_package_is_kept(tmp_path: Path) -> None:
    text = "default_scope = 'proteus'\nvisualizer = dict(type='Visualizer', _scope_='{}')"
    (tmp_path / "mine.py").write_text(text.format("mmengine"))
    assert load_config("mine.py").visualizer == {"type": "Visualizer", "_scope_": "mmengine"}
    (tmp_path / "mine.py").write_text(text.format("proteus"))
    assert load_config("mine.py").visualizer == {"type": "Visualizer"}


@pytest.mark.parametrize(
    ("base", "near"),
    [
        ("proteus::proteus/vit-s_dinov2_b.py", "did you mean 'proteus::proteus/vit-s_dinov2-b.py'?"),
        ("proteus::vit-s_dinov2-b", "did you mean 'proteus::proteus/vit-s_dinov2-b.py'?"),
        ("proteus::_base_/models/distil_vit.py", "did you mean 'proteus::_base_/models/distill_vit.py'?"),
        ("proteus::xyzzy/q.py", "write a path as in `proteus config list --paths`"),
    ],
)
def test_an_unknown_base_suggests_the_nearest(base: str, near: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"_base_ = {base!r}")
    with pytest.raises(ConfigError) as caught:
        load_config("mine.py")
    assert str(caught.value) == f"mine.py: _base_: no such config file: '{base}'; {near}"
