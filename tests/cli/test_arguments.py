import os
from argparse import ArgumentTypeError
from pathlib import Path

import pytest
import torch

from proteus.apis.resources import check_device, check_file, check_folder, check_out_folder
from proteus.cli.arguments import (
    ToolParser,
    add_key_values,
    device,
    existing_file,
    integer,
    non_negative_int,
    non_negative_number,
    number,
    out_file,
    out_folder,
    positive_int,
    positive_number,
)
from proteus.structures import UserError


def refused(parse, text: str) -> str:
    with pytest.raises(ArgumentTypeError) as caught:
        parse(text)
    return str(caught.value)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1e3", "many", "", "nan", "True", "None"])
def test_positive_int(text: str) -> None:
    assert positive_int("12") == 12
    assert refused(positive_int, text) == f"found {text!r}, expected a positive integer"


def test_integers_of_a_range() -> None:
    assert (non_negative_int("0"), integer(1, 95)("95")) == (0, 95)
    assert refused(non_negative_int, "-1") == "found '-1', expected a non-negative integer"
    assert refused(integer(1, 95), "96") == "found '96', expected an integer from 1 to 95"
    assert refused(integer(2), "1") == "found '1', expected an integer of at least 2"


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "-inf", "x", ""])
def test_positive_number(text: str) -> None:
    assert positive_number("1e3") == 1000.0
    assert refused(positive_number, text) == f"found {text!r}, expected a positive number"


def test_numbers_of_a_range() -> None:
    assert (non_negative_number("0"), number(-1, 1)("-1")) == (0.0, -1.0)
    assert refused(number(-1, 1), "1.5") == "found '1.5', expected a number from -1 to 1"


@pytest.mark.parametrize("name", ["gpu", "gpu0", "cuda:", "cuda:x", "cuda0", "CPU", "", "meta", "cuda:-1", "0"])
def test_unknown_device(name: str) -> None:
    assert check_device("cpu") == "cpu"
    assert refused(device, name).startswith(f"unknown device {name!r}; choose from: cpu")


def test_a_device_that_the_machine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refused(device, "cuda") == "device 'cuda': this machine has none that torch can use; choose from: cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert check_device("cuda:1") == "cuda:1"
    assert refused(device, "cuda:2") == "device 'cuda:2': this machine has 2; choose from: cpu, cuda:0, cuda:1"


def test_files_and_folders(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("")
    assert (check_file(file), check_folder(tmp_path), existing_file(str(file))) == (file, tmp_path, file)
    for check, wrong, words in (
        (check_file, tmp_path, "is a folder"),
        (check_file, tmp_path / "b.txt", "no such file"),
        (check_file, file / "c", "no such file"),
        (check_folder, file, "is a file"),
        (check_folder, tmp_path / "b", "no such folder"),
        (check_file, "x" * 300, "too long"),
        (check_file, "a\0b", "null"),
    ):
        with pytest.raises(UserError, match=words):
            check(wrong)


def test_folder_to_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.txt"
    file.write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert out_folder(str(tmp_path / "new/below")) == tmp_path / "new/below"
    assert not (tmp_path / "new").exists()
    for wrong, words in (
        (file, "is a file"),
        (file / "below", f"'{file}' is a file"),
        (tmp_path / "link", "broken link"),
        ("", "empty name"),
        (" ", "empty name"),
        ("x" * 300, "too long"),
    ):
        with pytest.raises(UserError, match=words):
            check_out_folder(wrong)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match=f"permission denied in '{tmp_path}'"):
        check_out_folder(tmp_path / "new")


def test_file_to_write(tmp_path: Path) -> None:
    assert out_file(str(tmp_path / "new.npy")) == tmp_path / "new.npy"
    for wrong, words in (
        (" ", "found an empty name, expected a file to write"),
        (str(tmp_path), f"'{tmp_path}' is a folder; name a file to write"),
        ("~nobody-here/a.npy", "'~nobody-here/a.npy': unknown home folder '~nobody-here'; write the full path"),
    ):
        assert refused(out_file, wrong) == words


def parsed(*values: str) -> dict:
    parser = ToolParser()
    add_key_values(parser)
    return parser.parse_args(["--cfg-options", *values]).cfg_options


def test_key_values() -> None:
    values = ("a.b=1e-3", "c=[1,(2,3)]", "d=None", "e=true", "f=x=y", "g=''", "h[0].i=2", "j=.*(a|b){2}", "k=[]")
    spaced = ("l=/data/my runs/first", "m='DINOv2 of mine'", "n=[1, (2, 3)]", "o=a, b", "p= 3 ")
    assert parsed(*spaced) == {
        "l": "/data/my runs/first",
        "m": "DINOv2 of mine",
        "n": [1, (2, 3)],
        "o": ["a", "b"],
        "p": 3,
    }
    assert parsed(*values) == {
        "a.b": 1e-3,
        "c": [1, (2, 3)],
        "d": None,
        "e": True,
        "f": "x=y",
        "g": "",
        "h.0.i": 2,
        "j": ".*(a|b){2}",
        "k": [],
    }


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["a"], "found 'a', expected KEY=VALUE"),
        (["=1"], "a part of the key is empty"),
        (["a..b=1"], "a part of the key is empty"),
        (["a.=1"], "a part of the key is empty"),
        ([".a=1"], "a part of the key is empty"),
        (["a b=1", " =2"], "a part of the key is empty"),
        (["a="], "a has no value; write a=None"),
        (["a= "], "a has no value"),
        (["a={'b':[1,2]}"], "a: found a dict; set its keys one by one: a.NAME=VALUE"),
        (["a={}"], "found a dict"),
        (["a=(1,[2,3)"], "brackets do not match"),
        (["a=[1,2"], "brackets do not match"),
        (["a=[1,,2]"], "an element of the list is empty"),
        (["a=[my photos,b]"], "a: found a list with a space in an element"),
        (["a=b,my photos"], "a: found a list with a space in an element"),
        (["a=1", "a=2"], "a is given twice"),
        (["a[0]=1", "a.0=2"], "a.0 is given twice"),
        (["a=1", "a.b=2"], "one holds the other"),
        (["a.b=1", "a=2"], "one holds the other"),
        (["a=" + "[" * 3000 + "]" * 3000], "brackets do not match"),
    ],
)
def test_wrong_key_values(values: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parsed(*values)
    text = capsys.readouterr().err
    assert exit_.value.code == 2
    assert text.startswith("error: argument --cfg-options: ")
    assert (words in text, text.count("\n")) == (True, 1)


def test_a_list_given_in_parts_replaces_the_default() -> None:
    parser = ToolParser()
    parser.add_argument("--sets", nargs="+", action="extend", default=["all"])
    parser.add_argument("--formats", nargs="+", action="extend")
    found = parser.parse_args(["--sets", "a", "--formats", "onnx", "--sets", "b", "c"])
    assert (found.sets, found.formats) == (["a", "b", "c"], ["onnx"])
    assert vars(parser.parse_args([]))["sets"] == ["all"]


def test_unknown_options(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ToolParser(prog="tool")
    parser.add_argument("--batch-size", required=True)
    parser.add_argument("rest", nargs="*")
    for words, end in (
        (["--batchsize", "8"], "--batchsize; nearest: --batch-size (see tool --help)\n"),
        (["--batch_size=8"], "--batch_size; nearest: --batch-size (see tool --help)\n"),
        (["--qqq"], "--qqq (see tool --help)\n"),
    ):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
        assert capsys.readouterr().err == f"error: unknown argument {end}"
    assert parser.parse_args(["--batch-size", "8", "--", "--file"]).rest == ["--file"]
