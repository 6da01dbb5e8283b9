import pytest

from proteus.apis.cfg_options import add_key_values
from proteus.apis.cli_types import ToolParser


def parsed(*values: str) -> dict:
    parser = ToolParser()
    add_key_values(parser)
    return parser.parse_args(["--cfg-options", *values]).cfg_options


def test_key_values() -> None:
    values = ("a.b=1e-3", "c=[1,(2,3)]", "d=None", "e=true", "f=x=y", "g=''", "h[0].i=2", "j=.*(a|b){2}", "k=[]")
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
