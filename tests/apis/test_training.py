import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from runs import write_config, write_images, write_teacher
from toy_runs import toy_config

from proteus.apis import ConfigError, load_config, set_work_dir, test, train, use_bfloat16
from proteus.apis.training import build_runner
from proteus.engine import AutocastOptimWrapper
from proteus.structures import UserError

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


class StartMethod(Hook):
    """Note how the workers of loaders would be started in the first iteration."""

    found = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        type(self).found = multiprocessing.get_start_method(allow_none=True)


@pytest.fixture(params=[None, "spawn"])
def start_method(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The start method that a user has chosen, or that none has been."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.filterwarnings("ignore:Multi-processing start method")
@pytest.mark.parametrize("fails", [False, True])
def test_the_start_method_of_processes_is_that_of_the_user_again_after_a_run(
    tmp_path: Path, start_method: str | None, fails: bool
) -> None:
    cfg = toy_config(tmp_path / "run", max_iters=2, bad=0 if fails else None)
    cfg.env_cfg = {"mp_cfg": {"mp_start_method": "fork"}}
    cfg.custom_hooks = [{"type": StartMethod}]
    StartMethod.found = None
    if fails:
        with pytest.raises(UserError, match="NaN"):
            train(cfg)
    else:
        train(cfg)
    assert StartMethod.found == "fork"
    assert multiprocessing.get_start_method(allow_none=True) == start_method
