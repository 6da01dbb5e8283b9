"""``proteus config``: list, show and copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from proteus.cli import main
from proteus.config.load import load_config
from proteus.config.locate import config_names, configs_root


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run ``proteus config`` in an empty folder; return its status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main("config", arguments)
        return ended.value.code, *capsys.readouterr()

    return call


def test_list(call) -> None:
    status, text, _ = call("list")
    assert status == 0
    rows = [line.split(maxsplit=1) for line in text.splitlines() if line.startswith("  ")]
    assert [row[0] for row in rows] == list(config_names())
    assert all(len(row) == 2 for row in rows), "every config begins with a comment"
    assert "\n\nproteus\n" in text
    assert "  vit-s_dinov2-b                 The main recipe: ViT-S/14 from DINOv2-B on ImageNet-1K\n" in text


def test_list_with_a_pattern(call) -> None:
    assert call("list", "knn/*")[1].splitlines()[0] == "knn"
    paths = [line.split()[0] for line in call("list", "*vit-l*", "--paths")[1].splitlines() if line.startswith("  ")]
    assert "proteus::nyu/vit-l_dpt.py" in paths
    assert all((configs_root() / path.removeprefix("proteus::")).is_file() for path in paths)
    assert call("list", "xyzzy") == (2, "", "error: no config fits 'xyzzy'; `proteus config list` prints all names\n")


def test_show_prints_a_config_that_loads_alike(call, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text('_base_ = "proteus::proteus/vit-s_dinov2-b.py"')
    status, text, _ = call("show", "mine.py", "--cfg-options", "train_dataloader.batch_size=7")
    assert status == 0
    (tmp_path / "shown.py").write_text(text)
    wanted = load_config("vit-s_dinov2-b", {"train_dataloader.batch_size": 7}).to_dict()
    assert load_config(tmp_path / "shown.py").to_dict() == wanted
    assert call("show", "vit-s_dinov2_b")[2].startswith("error: vit-s_dinov2_b: no such config file")


@pytest.mark.parametrize("name", ["vit-s_dinov2-b", "vit-s_dpt", "knn/imagenet", "fine_grained/all"])
def test_a_copy_loads_alike_and_its_comments_are_valid(call, name: str, tmp_path: Path) -> None:
    status, text, _ = call("copy", name, "sub/mine.py")
    assert (status, text) == (0, "sub/mine.py: edit it, then run: proteus check sub/mine.py\n")
    copy = tmp_path / "sub/mine.py"
    assert "proteus::" in copy.read_text()
    load_config(copy)
    lines = copy.read_text().splitlines()
    settings = [line.removeprefix("# ") for line in lines[4:]]
    assert len(settings) == (4 if name == "vit-s_dinov2-b" else 3 if name == "vit-s_dpt" else 0)
    copy.write_text("\n".join([*lines[:4], *settings]))
    cfg = load_config(copy)
    wanted = load_config(name)
    if settings:
        assert cfg.train_cfg.max_iters == wanted.train_cfg.max_iters
        assert cfg.work_dir == "work_dirs/mine"
        assert cfg.train_dataloader.batch_size == wanted.train_dataloader.batch_size


def test_what_copy_refuses(call, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("a = 1")
    assert call("copy", "vit-s_dinov2-b", "mine.py")[::2] == (2, "error: 'mine.py' exists; name a new file\n")
    assert (tmp_path / "mine.py").read_text() == "a = 1"
    message = "error: mine.py: is not a config that comes with Proteus; copy the file itself\n"
    assert call("copy", "mine.py", "new.py")[2] == message
    assert "name it new.py" in call("copy", "vit-s_dinov2-b", "new.yaml")[2]
    assert "did you mean 'vit-s_dinov2-b'" in call("copy", "vit-s_dinov2_b", "new.py")[2]
    assert call()[0] == 2
