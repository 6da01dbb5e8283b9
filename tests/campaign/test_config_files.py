"""Config files that are broken, circular, in other encodings, or made to run code."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proteus.apis import ConfigError, load_config

BOMB = "\n".join(["a0: &a0 [1]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9))])
# Files, of which the first is read, and words of the message.
BROKEN: dict[str, tuple[dict[str, str | bytes], tuple[str, ...]]] = {
    "YAML that ends early": ({"c.yaml": "model: [1, 2\nx: 3"}, ("line 2 is not YAML",)),
    "YAML with a tab": ({"c.yaml": "model:\n\t- 1"}, ("line 2 is not YAML",)),
    "JSON without a value": ({"c.json": '{"model": {\n"type": }}'}, ("line 2 is not JSON",)),
    "JSON with a comma too many": ({"c.json": '{"model": 1,}'}, ("line 1 is not JSON",)),
    "a list": ({"c.yaml": "- 1"}, ("found list at the top",)),
    "text": ({"c.json": '"model"'}, ("found str at the top",)),
    "null": ({"c.yaml": "null"}, ("found NoneType at the top",)),
    "a number as key": ({"c.yaml": "model: {1: 2}"}, ("model has the key 1",)),
    "a list as key": ({"c.yaml": "? [a]\n: 2"}, ("line 1",)),
    "key twice in YAML": ({"c.yaml": "a: 1\na: 2"}, ("line 2: key 'a' is written twice",)),
    "key twice in JSON": ({"c.json": '{"a": {"b": 1, "b": 2}}'}, ("key 'b' is written twice",)),
    "a value that contains itself": ({"c.yaml": "a: &a [*a]"}, ("contains itself",)),
    "aliases of aliases": ({"c.yaml": BOMB}, ("aliases",)),
    "nested too deeply": ({"c.json": "[" * 50_000}, ("nested too deeply",)),
    "syntax error": ({"c.py": "a = 1\nb = ("}, ("syntax error on line 2",)),
    "keyword twice": ({"c.py": "a = dict(b=1, b=2)"}, ("line 1", "b")),
    "unknown name": ({"c.py": "\nmodel = dict(depth=depht)"}, ("line 2: NameError", "depht")),
    "division by zero": ({"c.py": "\n\nx = 1 / 0"}, ("line 3: ZeroDivisionError",)),
    "missing key": ({"c.py": "a = {}\nb = a['x']"}, ("line 2: KeyError", "x")),
    "failed assertion": ({"c.py": "assert 1 == 2, 'odd'"}, ("line 1: AssertionError: odd",)),
    "an exit": ({"c.py": "import sys\nsys.exit(3)"}, ("line 2: ends the process",)),
    "an error of the system": ({"c.py": "open('nowhere.txt')"}, ("c.py", "nowhere.txt")),
    "an endless recursion": ({"c.py": "def f(): return f()\nf()"}, ("lead back to themselves",)),
    "a reserved name": ({"c.py": "filename = 'x'"}, ("filename", "reserved")),
    "an error in a base": ({"c.py": "_base_ = 'b.py'", "b.py": "\nx = 1 / 0"}, ("line 2 of", "b.py", "ZeroDivision")),
    "a base with a syntax error": ({"c.py": "_base_ = 'b.py'", "b.py": "("}, ("b.py: syntax error on line 1",)),
    "a base of itself": ({"c.py": "_base_ = 'c.py'"}, ("_base_ leads back to itself", "c.py -> ")),
    "bases in a circle": (
        {"c.py": "_base_ = ['b.py']", "b.py": "_base_ = './a.py'", "a.py": "_base_ = 'c.py'"},
        ("_base_ leads back to itself", "b.py", "a.py"),
    ),
    "YAML bases in a circle": ({"c.yaml": "_base_: b.yaml", "b.yaml": "_base_: c.yaml"}, ("leads back to itself",)),
    "a base through itself in the pure Python style": (
        {"c.py": "from mmengine.config import read_base\nwith read_base():\n    from .c import *\n"},
        ("lead back to themselves",),
    ),
    "a number as base": ({"c.py": "_base_ = 5"}, ("_base_: found 5", "name of a config file")),
    "None as base": ({"c.py": "_base_ = None"}, ("_base_: found None",)),
    "a dict as base": ({"c.yaml": "_base_: {a: 1}"}, ("_base_: found {'a': 1}",)),
    "a number among bases": ({"c.json": '{"_base_": ["b.json", 1]}', "b.json": "{}"}, ("_base_: found 1",)),
    "no such base": ({"c.py": "_base_ = 'bass.py'", "base.py": ""}, ("no such config file", "did you mean", "base.py")),
    "a folder as base": ({"c.py": "_base_ = '.'"}, ("_base_: ", "is a folder")),
    "a base of another suffix": ({"c.py": "_base_ = 'b.toml'", "b.toml": "a=1"}, ("unknown suffix '.toml'",)),
    "a package that is not installed": ({"c.py": "_base_ = 'nowhere::a.py'"}, ("'nowhere' is not installed",)),
    "the same key in two bases": (
        {"c.py": "_base_ = ['a.py', 'b.py']", "a.py": "x = 1", "b.py": "x = 2"},
        ("two bases define 'x'",),
    ),
    "no UTF-8": ({"c.py": "a = 1\nb = 'é'".encode("latin-1")}, ("line 2 is not UTF-8",)),
    "UTF-16": ({"c.yaml": "a: 1".encode("utf-16")}, ("line 1 is not UTF-8",)),
    "a zero byte": ({"c.py": b"x = 1\0"}, ("null bytes",)),
    "an empty file": ({"c.py": ""}, ("the file is empty",)),
    "blanks alone": ({"c.yaml": " \n\n"}, ("the file is empty",)),
    "an unknown suffix": ({"c.txt": "a = 1"}, ("unknown suffix '.txt'", ".yaml")),
    "no suffix": ({"c": "a = 1"}, ("unknown suffix ''",)),
    "no such module": ({"c.py": "from nowhere import Part\nmodel = dict(type=Part)"}, ("nowhere",)),
}

CODE = {  # YAML and JSON that would run code, or import it
    "object tag": "a: !!python/object/apply:os.system ['touch {mark}']",
    "name tag": "a: !!python/name:os.system",
    "module tag": "a: !!python/module:evil",
    "new tag": "a: !!python/object/new:subprocess.Popen [['touch', '{mark}']]",
    "tag in a base": "_base_: tag.yaml",
    "custom imports": "custom_imports: {{imports: [evil]}}",
    "a Python base": "_base_: evil.py",
    "a Python base through data": "_base_: through.yaml",
    "a Python base by a template": "_base_: '{{{{ fileDirname }}}}/evil.py'",
    "a Python base by a package": "_base_: 'mmseg::../../../../../../../../../../{folder}/evil.py'",
    "a Python base by the environment": "_base_: '{{{{$NO_SUCH:evil.py}}}}'",
    "a value of the environment": "work_dir: '{{{{$HOME:x}}}}'",
    "a function of the library": "model: {{type: subprocess.getoutput, cmd: 'touch {mark}'}}",
    "a function below": "train_dataloader: {{dataset: {{pipeline: [{{type: os.system, command: 'touch {mark}'}}]}}}}",
    "a function of a toolbox": "model: {{type: mmengine.dump, obj: x, file: '{mark}'}}",
    "a module of a toolbox": "model: {{type: mmengine.utils.package_utils.subprocess.getoutput, cmd: 'touch {mark}'}}",
    "a module in the same folder": "model: {{type: evil}}",
    "a scope": "default_scope: evil",
    "a scope below": "model: {{type: ViT, _scope_: evil}}",
    "a constructor": "optim_wrapper: {{constructor: evil.run, optimizer: {{type: SGD, lr: 1}}}}",
    "an average": "custom_hooks: [{{type: EMAHook, ema_type: evil.run}}]",
    "a runner": "runner_type: evil.run",
}


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / next(iter(files))


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_line(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, words = BROKEN[case]
    path = write(tmp_path, files)
    monkeypatch.chdir(tmp_path)
    begun = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert time.process_time() - begun < 10  # seconds of this process, whatever else the machine does
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "kind", ["missing", "folder", "folder with a suffix", "unreadable", "loop", "long", "zero byte"]
)
def test_a_file_that_cannot_be_read(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dir.py").mkdir()
    (tmp_path / "loop.py").symlink_to("loop.py")
    secret = write(tmp_path, {"secret.py": "a = 1"})
    names = {
        "missing": ("nowhere.py", "no such config file"),
        "folder": (".", "is a folder"),
        "folder with a suffix": ("dir.py", "is a folder"),
        "unreadable": ("secret.py", "permission denied"),
        "loop": ("loop.py", "is a broken link"),
        "long": ("x" * 300 + ".py", "too long"),
        "zero byte": ("a\0b.py", "no such config file"),
    }
    if kind == "unreadable":  # root reads everything
        original = Path.read_text

        def read_text(self: Path, *args: object, **kwargs: object) -> str:
            if self == secret:
                raise PermissionError(13, os.strerror(13), str(self))
            return original(self, *args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(Path, "read_text", read_text)
    name, words = names[kind]
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("case", "suffix"),
    [
        (case, suffix)
        for case in CODE
        for suffix in (".yaml", ".yml", ".json")
        if suffix != ".json" or "tag" not in case
    ],
)
def test_a_data_config_runs_no_code(case: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "mark"
    run = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\ndef run(*a, **k): pass\n"
    text = CODE[case].format(mark=mark, folder=str(tmp_path).lstrip("/"))
    if suffix == ".json":
        text = json.dumps(yaml.safe_load(text))
    path = write(
        tmp_path,
        {
            f"c{suffix}": text,
            "evil.py": run,
            "tag.yaml": CODE["object tag"].format(mark=mark),
            "through.yaml": "_base_: evil.py",
        },
    )
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "__init__.py").write_text(run)
    (tmp_path / "evil" / "registry.py").write_text(run)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_a_python_config_with_a_yaml_base_reads_it_as_data(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = write(tmp_path, {"c.py": "_base_ = 'tag' + '.yaml'", "tag.yaml": CODE["object tag"].format(mark=mark)})
    with pytest.raises(ConfigError):
        load_config(path)
    assert not mark.exists()


def test_a_valid_data_config(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("model: {type: proteus.ViT, arch: tiny}\nsize: 56\n")
    path = tmp_path / "c.yaml"
    path.write_text(
        "_base_: '{{ fileDirname }}/b.yaml'\ndefault_scope: proteus\nlr: 1e-3\nother: {{_base_.size}}\n"
        "pair: !!python/tuple [1, 2]\n"
        "train_dataloader: {dataset: {type: ImageFolder, data_root: images}, sampler: {type: DefaultSampler}}\n"
        "train_cfg: {by_epoch: true, max_epochs: 1}\n"
        "optim_wrapper: {optimizer: {type: SGD, lr: 0.1}, clip_grad: {type: norm, max_norm: 1.0}}\n"
    )
    config = load_config(path)
    assert config.model == {"type": "proteus.ViT", "arch": "tiny"}
    assert (config.lr, config.other, config.pair) == (1e-3, 56, (1, 2))


def test_a_data_config_may_have_a_python_base_of_ours(tmp_path: Path) -> None:
    recipe = Path(__file__).parents[2] / "configs/proteus/vit-s_dinov2-b.py"
    path = tmp_path / "c.yaml"
    path.write_text(f"_base_: '{recipe}'\nmodel: {{student: {{arch: tiny}}}}\n")
    assert load_config(path).model.student.arch == "tiny"


def test_a_pure_python_config(tmp_path: Path) -> None:
    path = tmp_path / "c.py"
    path.write_text(
        "import torch\nfrom mmengine.hooks import LoggerHook as Hooks\nfrom mmengine.hooks import EMAHook as modle\n"
        "from torch.optim import SGD as param_schedulers\n"
        "default_hooks = dict(logger=dict(type=Hooks, interval=1))\ncustom_hooks = [dict(type=modle)]\n"
        "default_scope = 'proteus'\n"
    )
    assert load_config(path).default_hooks.logger.interval == 1


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_any_text_is_a_config_or_one_line(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"c{suffix}"
    pieces = st.sampled_from(
        [
            "model",
            ": ",
            "{",
            "}",
            "[",
            "]",
            '"',
            "\n",
            "  ",
            "- ",
            "&a ",
            "*a",
            "!!python/name:os.system",
            "<<",
            "{{_base_.x}}",
            "_base_",
            "type",
            "1e3",
            ".nan",
            "null",
            "|",
            "%",
            "é",
        ]
    )

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.one_of(st.text(max_size=60), st.lists(pieces, max_size=12).map("".join)))
    @example("{{_base_.x}}: 1")
    @example("a: {{_base_.x}}")
    @example("? ")
    @example("\ufeffa: 1")
    def read(text: str) -> None:
        path.write_text(text, encoding="utf-8", errors="replace")
        with suppress(ConfigError):
            load_config(path)

    read()
