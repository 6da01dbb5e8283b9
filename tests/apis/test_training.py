from pathlib import Path

import pytest
from mmengine.config import Config
from runs import write_config, write_images, write_teacher

from proteus.apis import ConfigError, load_config, set_work_dir, test, train, use_bfloat16
from proteus.apis.training import build_runner
from proteus.engine import AutocastOptimWrapper

run_test = test
del test  # pytest would collect it


@pytest.fixture
def cfg(tmp_path: Path) -> Config:
    images, teacher = write_images(tmp_path / "images", 8), write_teacher(tmp_path / "teacher.safetensors")
    config = load_config(write_config(tmp_path, images, teacher))
    config.work_dir = str(tmp_path / "run")
    return config


def test_work_dir() -> None:
    cfg = load_config("configs/proteus/vit-ti_dinov2-s.py")
    set_work_dir(cfg, None)
    assert cfg.work_dir == "work_dirs/vit-ti_dinov2-s"
    cfg.work_dir = "of/the/config"
    set_work_dir(cfg, None)
    assert cfg.work_dir == "of/the/config"
    set_work_dir(cfg, "of/the/command")
    assert cfg.work_dir == "of/the/command"


def test_amp(cfg: Config) -> None:
    cfg.optim_wrapper.update(type="AmpOptimWrapper", loss_scale="dynamic", dtype="float16")
    use_bfloat16(cfg)
    runner = build_runner(cfg)
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    assert isinstance(wrapper, AutocastOptimWrapper)
    assert wrapper.dtype == "bfloat16"


def test_a_constructor_error_is_a_config_error(cfg: Config) -> None:
    cfg.model.teacher.dtype = "float8"
    with pytest.raises(ConfigError, match=r"small\.py(.|\n)*teacher\.dtype='float8'"):
        train(cfg)


def test_a_missing_load_from_stops_before_training(cfg: Config, tmp_path: Path) -> None:
    cfg.load_from = str(tmp_path / "iter_1.pth")
    with pytest.raises(ConfigError, match=r"load_from = '.*iter_1\.pth' does not exist; create it"):
        train(cfg)
    assert not (tmp_path / "run").exists()


def test_nothing_is_tested_without_a_checkpoint(cfg: Config, tmp_path: Path) -> None:
    (tmp_path / "iter_10.pth").touch()
    with pytest.raises(ConfigError, match=r"^test: no such checkpoint: '.*iter_1\.pth'.*iter_10\.pth"):
        run_test(cfg, tmp_path / "iter_1.pth")


def test_a_build_does_not_disturb_a_functions_name(cfg: Config) -> None:
    """A user's own collate function, registered at the root, keeps its name; ours gets its scope."""
    build_runner(cfg)
    assert cfg.train_dataloader.collate_fn.type == "proteus.distill_collate"
    build_runner(cfg)
    assert cfg.train_dataloader.collate_fn.type == "proteus.distill_collate"
