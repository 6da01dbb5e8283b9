from argparse import ArgumentParser, Namespace

import pytest

from proteus.apis import ConfigError
from proteus.apis.cli import add_config_arguments, as_config_error, run
from proteus.checkpoints import CheckpointError
from proteus.engine.hooks import CorruptProxySetError


def raising(error: Exception):
    def main(arguments: Namespace) -> int:
        raise error

    return main


@pytest.mark.parametrize(
    "error",
    [
        ConfigError(["model.x: unknown"], "small.py"),
        CheckpointError("w.pth: bad"),
        CorruptProxySetError("x"),
        FileNotFoundError("y"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_users_mistake_is_a_sentence_and_status_2(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(raising(error), Namespace())
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_a_fault_of_ours_shows_itself() -> None:
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()), Namespace())


@pytest.mark.parametrize("status", [0, 1])
def test_status(status: int) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(lambda _: status, Namespace())
    assert exit_.value.code == status


def test_what_a_constructor_refuses_becomes_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"small\.py(.|\n)*img_size=57"), as_config_error("small.py"):
        raise ValueError("img_size=57")
    with pytest.raises(CheckpointError, match=r"w\.pth"), as_config_error("small.py"):
        raise CheckpointError("w.pth")


def test_arguments() -> None:
    parser = add_config_arguments(ArgumentParser())
    found = parser.parse_args(["c.py", "--cfg-options", "a.b=1", "c=[1,2]", "d=None", "--local-rank", "1"])
    assert found.config == "c.py"
    assert found.cfg_options == {"a.b": 1, "c": [1, 2], "d": None}
    assert (found.work_dir, found.launcher, found.local_rank) == (None, "none", 1)
