from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
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
