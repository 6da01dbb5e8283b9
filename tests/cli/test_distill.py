"""Arguments of ``proteus distill``; ``tests/apis/test_distill.py`` runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import proteus.apis.distill as module
from proteus.apis.distillation.request import Request
from proteus.cli.distill import main, parse_args


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of each call of ``distill``, and of ``prepare``, which are replaced."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "distill", lambda **arguments: found.append(arguments))
    monkeypatch.setattr(module, "prepare", lambda request, **own: found.append({"request": request, **own}))
    return found


def command(tmp_path: Path, *more: str) -> list[str]:
    return ["--teacher", "packaged", "--data", "photos", "--out", str(tmp_path), *more]


def test_arguments_that_are_not_given_are_left_open(tmp_path: Path, calls: list[dict[str, Any]]) -> None:
    assert main(parse_args(command(tmp_path))) == 0
    given = calls[0]
    assert (given["data"], given["out"], given["overrides"]) == ("photos", tmp_path, {})
    request = Request(**{key: value for key, value in given.items() if key not in ("out", "loggers", "resume")})
    assert request == Request("packaged", "vit_small", "photos")


def test_values_are_parsed(tmp_path: Path, calls: list[dict[str, Any]]) -> None:
    words = ["--batch-size", "32", "--lr", "1e-4", "--workers", "0", "--img-size", "auto", "--epochs", "2.5"]
    words += ["--logger", "wandb,mlflow", "--cfg-options", "model.student.depth=6"]
    main(parse_args(command(tmp_path, *words)))
    given = calls[0]
    assert [given[name] for name in ("batch_size", "lr", "workers", "img_size", "epochs")] == [32, 1e-4, 0, "auto", 2.5]
    assert given["loggers"] == ["wandb", "mlflow"]
    assert given["overrides"] == {"model.student.depth": 6}


def test_several_folders_are_a_list(tmp_path: Path, calls: list[dict[str, Any]]) -> None:
    main(parse_args(["--teacher", "packaged", "--out", str(tmp_path), "--data", "a", "b", "--data", "c"]))
    assert calls[0]["data"] == ["a", "b", "c"]


def test_processes_are_on_the_cpu(tmp_path: Path, calls: list[dict[str, Any]]) -> None:
    main(parse_args(command(tmp_path, "--processes", "2")))
    assert (calls[0]["device"], calls[0]["gpus"]) == ("cpu", 2)


def test_the_config_can_be_written_alone(
    tmp_path: Path, calls: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    main(parse_args(command(tmp_path, "--config-only", "--iters", "5")))
    assert calls == [
        {
            "request": Request("packaged", "vit_small", "photos", iters=5),
            "out": tmp_path,
            "loggers": [],
            "resume": False,
        }
    ]
    assert "with --resume" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "3", "--iters", "5"], "not allowed with argument --epochs"),
        (["--gpus", "0", "--processes", "2"], "not allowed with argument --gpus"),
        (["--batch-size", "many"], "--batch-size: found 'many', expected a positive integer"),
        (["--lr", "0"], "--lr: found '0', expected a positive number"),
        (["--gpus", "99"], "--gpus: found 99, but "),
        (["--init", "pretrained"], "--init: invalid choice"),
        (["--teacher", "b"], "--teacher: found 'packaged' and 'b', expected one; docs/several_teachers.md has"),
        (
            ["--student", "vit_tiny", "--student", "vit_base"],
            "--student: found 'vit_tiny' and 'vit_base', expected",
        ),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_args(command(tmp_path, *words))
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert message in error
    assert error.count("\n") == 1
