from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from timm.layers import BatchNormAct2d
from torch import nn
from toy_runs import toy_config

from proteus.apis.guarded_runner import GuardedRunner
from proteus.apis.training import build_runner
from proteus.structures import ConfigError

BUILDERS = {
    "build_train_loop": "train_cfg",
    "build_val_loop": "val_cfg",
    "build_test_loop": "test_cfg",
    "build_optim_wrapper": "optim_wrapper",
    "scale_lr": "auto_scale_lr",
    "build_param_scheduler": "param_scheduler",
}


def runner(monkeypatch: pytest.MonkeyPatch, method: str, result: Any) -> GuardedRunner:
    """Make a runner that only has a config; MMEngine's ``method`` returns or raises ``result``."""

    def build(self: Runner, *arguments: Any) -> Any:
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr(Runner, method, build)
    made = object.__new__(GuardedRunner)
    made.cfg = Config({}, filename=None)
    return made


@pytest.mark.parametrize(("method", "key"), BUILDERS.items())
def test_a_constructor_error_names_the_key(method: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = runner(monkeypatch, method, ValueError("lr is wrong"))
    with pytest.raises(ConfigError) as caught:
        getattr(made, method)({})
    assert caught.value.problems == [f"{key}: lr is wrong"]


@pytest.mark.parametrize("method", [name for name in BUILDERS if name != "scale_lr"])
def test_built_parts_are_returned(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built = object()
    assert getattr(runner(monkeypatch, method, built), method)({}) is built


def test_an_empty_validation_set_is_refused_before_training(tmp_path: Path) -> None:
    # Runs of one name share a visualizer, with the folder of the first.
    cfg = toy_config(tmp_path / "run", experiment_name="empty", val_dataloader__dataset__size=0)
    runner = build_runner(cfg)
    with pytest.raises(ConfigError, match=r"val_dataloader\.dataset has no images"):
        runner.train()
    assert runner.iter == 0


def test_the_dumped_config_is_the_config_and_is_not_formatted_with_yapf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yapf.yapflib.yapf_api.FormatCode", None)
    runner = build_runner(toy_config(tmp_path / "run"))
    runner.dump_config()
    work_dir, visualizer = sorted((tmp_path / "run").rglob("*.py"))
    assert Config.fromfile(work_dir).to_dict() == Config.fromfile(visualizer).to_dict() == runner.cfg.to_dict()


def test_an_interruption_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        runner(monkeypatch, "build_train_loop", KeyboardInterrupt()).build_train_loop({})


class Wrapper(nn.Module):
    """Stands in for ``DistributedDataParallel``, without processes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def wrapped(model: nn.Module, sync_bn: str) -> nn.Module:
    """The model as a runner of several processes wraps it, without its wrapper."""
    made = object.__new__(GuardedRunner)
    made.cfg = Config({"sync_bn": sync_bn}, filename=None)
    made._distributed = True
    found = made.wrap_model({"type": Wrapper}, model)
    assert made.cfg.sync_bn == sync_bn
    return found.module


def test_synchronised_batch_norms_keep_the_activations_of_timm() -> None:
    images = torch.randn(2, 3, 5, 5)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 8, 1), BatchNormAct2d(8)).eval()
    names, expected = list(model.state_dict()), model(images)
    model = wrapped(model, "torch")
    assert all(isinstance(model[place], nn.SyncBatchNorm) for place in (1, 3))
    assert list(model.state_dict()) == names
    assert torch.equal(model(images), expected)
    assert expected.min() == 0


def test_mmcv_cannot_synchronise_batch_norms_with_an_activation() -> None:
    with pytest.raises(ConfigError, match="sync_bn='mmcv': the model has timm's BatchNormAct2d, which only 'torch'"):
        wrapped(nn.Sequential(BatchNormAct2d(8)), "mmcv")
