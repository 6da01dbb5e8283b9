import math
import subprocess
import sys
from pathlib import Path

import pytest

from proteus.config.write import config_text, write_config
from proteus.structures import ConfigError

PIPELINE = [{"type": "LoadImage"}, {"type": "RandomResizedCrop", "scale": 112, "crop_ratio_range": (0.08, 1.0)}]
LONG = {f"argument_{number}": "x" * 20 for number in range(6)}
VALUES = {
    "_base_": "proteus::_base_/distill.py",
    "pipeline": PIPELINE,
    "loader": {"batch_size": 8, "dataset": {"pipeline": PIPELINE, "folders": {"my photos": 1, "class": 2}}},
    "other_loader": {"batch_size": 8, "dataset": {"pipeline": PIPELINE, "folders": {"my photos": 1, "class": 2}}},
    "lr": 1e-5,
    "nested": {"deep": {**LONG, "empty": {}, "none": None, "yes": True, "one": (1,), "list": []}},
    "quotes": ["it's", 'say "a"', "back\\slash", "ümlaut"],
}


def test_the_text_gives_the_values_back() -> None:
    found: dict[str, object] = {}
    exec(config_text(VALUES, header="first\n\nthird"), found)
    del found["__builtins__"]
    assert found == VALUES


def test_repeated_values_are_written_once() -> None:
    lines = config_text(VALUES).splitlines()
    folders = '{"my photos": 1, "class": 2}'
    assert f"loader = dict(batch_size=8, dataset=dict(pipeline=pipeline, folders={folders}))" in lines
    assert "other_loader = loader" in lines
    assert "lr = 1e-5" in lines


def test_comments_stand_behind_short_values_and_above_long_ones() -> None:
    text = config_text(VALUES, "two\nlines", {"lr": "low", "loader.batch_size": "small", "nested.deep": "above"})
    assert text.startswith("# two\n# lines\n_base_")
    assert "lr = 1e-5  # low\n" in text
    assert "    batch_size=8,  # small\n" in text
    assert "    # above\n    deep=dict(\n" in text


def test_the_style_is_that_of_the_formatter(tmp_path: Path) -> None:
    write_config(tmp_path / "config.py", VALUES, "header", {"lr": "low", "loader": "both loaders"})
    command = [sys.executable, "-m", "ruff", "format", "--diff", "--line-length", "120", str(tmp_path / "config.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), {"a": [Path("x")]}])
def test_what_is_not_a_literal_is_refused_with_its_key(value: object) -> None:
    with pytest.raises(ConfigError, match=r"model\.key.*: found "):
        config_text({"model": {"key": value}})
