"""Commands in the pages name targets, files and options that exist."""

import re
import runpy
import shlex
import sys
from contextlib import redirect_stdout, suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from markdown_pages import PAGES, ROOT, blocks, inline_code, name, written_files

from proteus.apis import load_config
from proteus.cli import VERBS
from proteus.config.locate import locate_config

MAKE = (ROOT / "Makefile").read_text(encoding="utf-8")
SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")
OTHERS = {"cd", "git", "grep", "pre-commit"}
# Launcher: the tool, and how many arguments stand before the config, and between it and the tool's other arguments.
LAUNCHERS = {
    "dist_train.sh": ("train.py", 0, 1),
    "dist_test.sh": ("test.py", 0, 1),
    "slurm_train.sh": ("train.py", 2, 0),
}
PLACEHOLDER = re.compile(r"[A-Z_]+")


def commands(text: str) -> list[list[str]]:
    """Split a block into commands, with variables of the block filled in and environment variables left out."""
    found: list[list[str]] = []
    variables: dict[str, str] = {}
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        words = [re.sub(r"\$(\w+)", lambda match: variables.get(match[1], match[0]), word) for word in words]
        while words and re.fullmatch(r"\w+=.*", words[0]):
            key, _, value = words.pop(0).partition("=")
            variables[key] = value
        part: list[str] = []
        for word in [*words, "|"]:
            if word in ("|", "&&"):
                found += [part] if part else []
                part = []
            else:
                part.append(word)
    return [command[1:] if command[0] == "time" else command for command in found]


def check(command: list[str]) -> None:
    """Check one command; AssertionError names what does not exist."""
    program, *arguments = command
    if program == "make":
        targets = [word for word in arguments if "=" not in word]
        assert all(re.search(rf"^{target}:", MAKE, re.MULTILINE) for target in targets), f"no target in {arguments}"
    elif program == "pip":
        for extra in re.findall(r"(?:\.|proteus-toolbox)\[([\w,]+)\]", " ".join(arguments)):
            assert all(f'"{each}"' in SETUP for each in extra.split(",")), f"no extra {extra}"
    elif program.rpartition("/")[2] in ("python", "python3", "torchrun"):
        check_python(arguments)
    elif program == "proteus":
        check_verb(arguments)
    elif program.startswith("tools/"):
        check_tool(program, arguments)
    elif "/" in program:
        assert (ROOT / program).is_file()
    else:
        assert program in OTHERS, f"unknown program {program}"


def check_python(arguments: list[str]) -> None:
    while arguments and arguments[0].startswith("--nproc"):
        arguments = arguments[1:]
    if arguments[:2] == ["-m", "proteus"]:
        check_verb(arguments[2:])
    elif arguments[0] == "-m":
        assert find_spec(arguments[1].partition(".")[0]), f"no module {arguments[1]}"
    elif arguments[0].startswith("tools/"):
        check_tool(arguments[0], arguments[1:])
    else:
        check_options(ROOT / arguments[0], arguments[1:])


def check_options(script: Path, arguments: list[str]) -> None:
    """Look for options in a script and its folder, where running its parser would take long."""
    text = "".join(path.read_text(encoding="utf-8") for path in [script, *script.parent.glob("*.py")])
    options = [word.partition("=")[0] for word in arguments if word.startswith("--")]
    assert all(f'"{option}"' in text for option in options), f"{options} of {script.name}"


def check_tool(program: str, arguments: list[str]) -> None:
    """Parse a tool's arguments; where there are settings of a config, load it with them."""
    tool = Path(program).name
    if tool in LAUNCHERS:
        tool, before, between = LAUNCHERS[tool]
        middle = before + 1 + ("test" in tool)
        arguments = arguments[before:middle] + arguments[middle + between :]
        program = f"tools/{tool}"
    script = ROOT / program
    if "parse_args" not in script.read_text(encoding="utf-8"):
        return check_options(script, arguments)
    check_config(vars(parse(script, arguments)))


def check_verb(arguments: list[str]) -> None:
    """Parse the arguments of ``proteus VERB``; where there are settings of a config, load it with them."""
    verb, *rest = arguments
    if verb == "--help":
        return
    assert verb in VERBS, f"no command {verb}"
    check_config(vars(parse(verb, rest)))


def check_config(values: dict[str, Any]) -> None:
    config = values.get("config")
    if not config or PLACEHOLDER.fullmatch(config) or config in written_files():
        return
    file = ROOT / config if (ROOT / config).is_file() else locate_config(config)
    assert file.is_file(), f"no config {config}"
    if values.get("cfg_options"):
        load_config(file, values["cfg_options"])


def parse(command: Path | str, arguments: list[str]) -> Any:
    """Parse the arguments of a script, or of a verb."""
    with pytest.MonkeyPatch.context() as patch:
        program = str(command) if isinstance(command, Path) else "proteus"
        patch.setattr(sys, "argv", [program, *arguments])
        modules = [import_module(f"proteus.cli.{name}") for name in ("run", "launch", *VERBS)]
        kinds = {"existing_file": str, "existing_folder": str, "out_folder": str, "device": str, "gpus": int}
        for kind, plain in kinds.items():
            for module in modules:
                patch.setattr(module, kind, plain, raising=False)  # no file or GPU of a page is here
        if isinstance(command, str):
            return import_module(f"proteus.cli.{command}").parse_args(arguments)
        return runpy.run_path(str(command), run_name="page")["parse_args"]()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_blocks_exist(page: Path) -> None:
    for block in blocks(page, "bash", "console"):
        for command in commands(block.text):
            try:
                check(command)
            except (Exception, SystemExit) as error:
                pytest.fail(f"{block}: {shlex.join(command)}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_sentences_exist(page: Path) -> None:
    """A sentence may leave out arguments: what it names must exist."""
    for line, text in inline_code(page):
        command = re.match(r"(?:python |torchrun )?(tools/[\w./]+\.py|proteus [a-z]+) (.+)", text)
        if command:
            unknown = [word for word in re.findall(r"--[\w-]+", command[2]) if word not in usage(command[1])]
            assert unknown == [], f"{name(page)}:{line}: {text}"
        elif text.startswith(("make ", "pip ")):
            for each in commands(text):
                check(each)


@cache
def usage(command: str) -> str:
    """Return what a tool or ``proteus VERB`` prints with ``--help``."""
    program, _, verb = command.partition(" ")
    script = ROOT / program
    if verb == "config":  # its actions have their own help
        return (ROOT / "proteus/cli/config.py").read_text(encoding="utf-8")
    if not verb and "parse_args" not in script.read_text(encoding="utf-8"):
        return script.read_text(encoding="utf-8")
    output = StringIO()
    with redirect_stdout(output), suppress(SystemExit):
        parse(verb or script, ["--help"])
    return output.getvalue()


@pytest.mark.parametrize("folder", ["proteus", "finetune", "ade20k"])
def test_commands_for_another_batch_size_see_as_many_images(folder: str) -> None:
    texts = [block.text for block in blocks(ROOT / f"configs/{folder}/README.md", "bash")]
    found = [each for text in texts for each in commands(text) if "auto_scale_lr.enable=True" in each]
    assert len(found) == 1
    _, config, processes, *arguments = found[0]
    options = parse(ROOT / "tools/train.py", [config, *arguments]).cfg_options
    usual, other = load_config(ROOT / config), load_config(ROOT / config, options)
    images = usual.auto_scale_lr.base_batch_size * usual.train_cfg.max_iters
    assert int(processes) * other.train_dataloader.batch_size * other.train_cfg.max_iters == images
    schedules = other.param_scheduler
    last = schedules[-1].end if isinstance(schedules, list) else schedules.epochs * schedules.iters_per_epoch
    assert last == other.train_cfg.max_iters
    assert other.train_cfg.val_interval == 2 * usual.train_cfg.val_interval
