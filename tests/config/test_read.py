from pathlib import Path

import pytest

from proteus.config.read import read_config
from proteus.config.validate import ConfigError


def write(folder: Path, **texts: str) -> Path:
    """Write config files, the name ``a_py`` for ``a.py``; returns the path of the first."""
    paths = [folder / ".".join(name.rsplit("_", 1)) for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text)
    return paths[0]


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("child_py", "_base_ = 'base.py'\na = dict(y=3)"),
        ("child_yaml", "_base_: base.json\na: {y: 3}"),
        ("child_json", '{"_base_": ["base.json"], "a": {"y": 3}}'),
    ],
)
def test_a_config_overrides_its_base(name: str, text: str, tmp_path: Path) -> None:
    path = write(tmp_path, **{name: text}, base_py="a = dict(x=1, y=2)", base_json='{"a": {"x": 1, "y": 2}}')
    assert read_config(path).to_dict() == {"a": {"x": 1, "y": 3}}


def test_a_cycle_of_bases_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, a_py="_base_ = 'b.py'", b_py="_base_ = 'a.py'")
    assert refused(path) == f"_base_ leads back to itself: {path} -> {tmp_path / 'b.py'} -> {path}"


def test_a_missing_base_is_named_with_the_nearest_file(tmp_path: Path) -> None:
    path = write(tmp_path, a_py="_base_ = 'runtme.py'", runtime_py="x = 1")
    missing, near = tmp_path / "runtme.py", tmp_path / "runtime.py"
    assert refused(path) == f"_base_: no such config file: '{missing}'; did you mean '{near}'?"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a_py", "x = 1\ny = 1 / 0", "line 2: ZeroDivisionError: division by zero"),
        ("a_py", "x = 1\ny = (", "syntax error on line 2: '(' was never closed"),
        ("a_py", "raise SystemExit(3)", "line 1: ends the process"),
        ("a_py", " \n", "the file is empty; a config starts with _base_ or model"),
        ("a_py", "_base_ = 3", "_base_: found 3, expected the name of a config file, or a list of names"),
        ("a_txt", "x = 1", "unknown suffix '.txt'; a config file is one of .py, .yaml, .yml, .json"),
        ("a_py", "_base_ = 'nothere::x.py'", "_base_: 'nothere::x.py': the package 'nothere' is not installed"),
    ],
)
def test_a_broken_file_is_named_with_its_line(name: str, text: str, words: str, tmp_path: Path) -> None:
    assert refused(write(tmp_path, **{name: text})) == words


def test_a_data_config_runs_no_python(tmp_path: Path) -> None:
    path = write(tmp_path, a_yaml="_base_: b.py", b_py=f"open({str(tmp_path / 'canary')!r}, 'w')")
    assert refused(path).startswith("_base_: 'b.py' is Python, which a .yaml config may not run")
    assert not (tmp_path / "canary").exists()


def test_a_file_of_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes("x = 1\ny = 'ü'".encode("latin-1"))
    assert refused(path) == "line 2 is not UTF-8; save the file in that encoding"
