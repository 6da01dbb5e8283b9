"""``proteus`` and ``python -m proteus``: the list of commands, and how one is chosen."""

from __future__ import annotations

import re
import runpy
import sys
from importlib import import_module
from pathlib import Path

import pytest

from proteus.apis.evaluate import CONFIGS
from proteus.cli import VERBS, main
from proteus.version import __version__

ROOT = Path(__file__).parents[2]
SCRIPTS = {
    "inspect": "inspect_checkpoint",
    "convert": "convert_checkpoint",
    "pack": "pack_shards",
    "cache": "cache_teacher",
}
IN_TOOLS = [verb for verb in VERBS if (ROOT / f"tools/{SCRIPTS.get(verb, verb)}.py").is_file()]


def ended(capsys: pytest.CaptureFixture[str], verb: str | None, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(verb, arguments)
    return exit_.value.code, *capsys.readouterr()


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, text, _ = ended(capsys, None, "--help")
    assert status == 0
    listed = dict(re.findall(r"^  (\w+)  +(.+)$", text.partition("Commands:")[2].partition("positional")[0], re.M))
    assert listed == VERBS
    assert all(len(line) <= 100 for line in text.splitlines())


def test_without_a_command_the_list_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(capsys, None)[0] == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(capsys, None, "--version") == (0, f"proteus {__version__}\n", "")


def test_an_unknown_command_is_one_line_with_the_nearest_names(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = ended(capsys, None, "evalute", "--backbone", "x")
    assert (status, out) == (2, "")
    assert err == "error: unknown command 'evalute'; nearest: evaluate (see proteus --help)\n"
    assert f"choose from: {', '.join(VERBS)}" in ended(capsys, None, "xyzzy")[2]


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_command_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, text, _ = ended(capsys, None, verb, "--help")
    assert status == 0
    assert text.startswith(f"usage: proteus {verb} ")
    assert f"Example:\n  proteus {verb} " in text


def test_a_wrong_argument_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    message = "error: the following arguments are required: file (see proteus inspect --help)\n"
    assert ended(capsys, None, "inspect") == (2, "", message)
    assert ended(capsys, "inspect") == (2, "", message)


def test_a_command_ends_with_its_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = ended(capsys, None, "inspect", str(tmp_path / "nowhere.pth"))
    assert status == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("verb", IN_TOOLS)
def test_a_script_of_tools_runs_the_same_functions(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"tools/{SCRIPTS.get(verb, verb)}.py"
    script = runpy.run_path(str(ROOT / name), run_name="script")
    module = import_module(f"proteus.cli.{verb}")
    assert (script["main"], script["parse_args"]) == (module.main, module.parse_args)
    monkeypatch.setattr(sys, "argv", [str(ROOT / name), "--help"])
    with pytest.raises(SystemExit):
        script["parse_args"]()
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {name} ")
    assert f"Example:\n  {name} " in text
    assert f"proteus {verb}" not in text


def test_every_script_is_covered() -> None:
    assert {"train", "test", "evaluate", "infer", "inspect", "convert", "pack", "cache"} <= set(IN_TOOLS)


def test_python_m_proteus_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["proteus", "--version"])
    with pytest.raises(SystemExit):
        runpy.run_module("proteus", run_name="__main__")
    assert capsys.readouterr().out == f"proteus {__version__}\n"


def test_help_of_evaluate_lists_the_protocols(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(ended(capsys, "evaluate", "--help")[1].split())
    assert all(name in text for name in CONFIGS)
