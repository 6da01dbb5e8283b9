import pytest
from mmengine.config import Config

from proteus.apis import ConfigError
from proteus.checkpoints import CheckpointError
from proteus.config.build_errors import as_config_error
from proteus.registry import HOOKS, VISUALIZERS


def test_a_constructor_error_becomes_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"small\.py: img_size=57"), as_config_error("small.py"):
        raise ValueError("img_size=57")
    with pytest.raises(CheckpointError, match=r"w\.pth"), as_config_error("small.py"):
        raise CheckpointError("w.pth")
    with pytest.raises(FileNotFoundError), as_config_error("small.py"):
        raise FileNotFoundError("x")


@pytest.mark.parametrize("error", [TypeError, ValueError, AssertionError, KeyError, AttributeError, ZeroDivisionError])
def test_every_type_of_exception(error: type[Exception]) -> None:
    with (
        pytest.raises(ConfigError, match=r"^small\.py: default_hooks\.x: ") as caught,
        as_config_error("small.py", "default_hooks.x"),
    ):
        raise error()
    assert "\n" not in str(caught.value)


def test_the_key_of_the_innermost_part_is_named() -> None:
    config = Config(
        dict(
            default_hooks=dict(logger=dict(type="LoggerHook", interval_exp_name="x", wrong=1)),
            custom_hooks=[
                dict(type="EMAHook"),
                dict(type="IterTimerHook", wrong=2),
            ],
        )
    )
    with pytest.raises(ConfigError, match=r"default_hooks\.logger: .*wrong"), as_config_error(config):
        HOOKS.build(config.default_hooks.logger)
    with pytest.raises(ConfigError, match=r"custom_hooks\[1\]: "), as_config_error(config):
        HOOKS.build(config.custom_hooks[1])


def test_the_key_is_found_although_keys_were_added_and_siblings_are_equal() -> None:
    config = Config(
        dict(
            visualizer=dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend", wrong=1)]),
            custom_hooks=[dict(type="IterTimerHook", wrong=2), dict(type="IterTimerHook", wrong=2)],
        )
    )
    built = {**config.visualizer, "name": "test_building", "save_dir": "x"}
    with pytest.raises(ConfigError, match=r"visualizer\.vis_backends\[0\]: .*wrong"), as_config_error(config):
        VISUALIZERS.build(built)
    with pytest.raises(ConfigError, match=r"^config: custom_hooks: .*wrong"), as_config_error(config, "custom_hooks"):
        HOOKS.build({**config.custom_hooks[0]})
