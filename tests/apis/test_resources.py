import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from proteus.apis.resources import check_device, check_file, check_folder, check_out_folder, expanded
from proteus.structures import UserError

not_root = pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")


def test_a_device_of_this_machine_passes() -> None:
    assert check_device("cpu") == "cpu"
    assert check_device(torch.device("cpu")) == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "cuda:-1", "CPU", "meta"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"^unknown device {name!r}; choose from: cpu"):
        check_device(name)


def test_a_device_that_the_machine_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert check_device("cuda:1") == "cuda:1"
    with pytest.raises(UserError, match=r"^device 'cuda:2': this machine has 2; choose from: cpu, cuda:0, cuda:1"):
        check_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"^device 'cuda': this machine has none that torch can use; choose from: cpu"):
        check_device("cuda")


def test_existing_paths_pass(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.touch()
    assert check_file(str(file)) == file
    assert check_folder(str(tmp_path)) == tmp_path
    assert check_out_folder(tmp_path / "new" / "folder") == tmp_path / "new" / "folder"


@pytest.mark.parametrize(
    ("check", "name", "words"),
    [
        (check_file, "none", "'none': no such file"),
        (check_file, "folder", "'folder' is a folder; name a file"),
        (check_file, "file/x", "'file/x': no such file"),
        (check_folder, "none", "'none': no such folder"),
        (check_folder, "file", "'file' is a file; name a folder"),
        (check_folder, "a\0b", r"'a\x00b': "),
        (check_folder, "x" * 300, f"'{'x' * 80}': file name too long"),
        (check_out_folder, "file", "'file' is a file; name a folder to write to"),
        (check_out_folder, "link", "'link' is a broken link; name a folder to write to"),
        (check_out_folder, " ", "found an empty name, expected a folder to write to"),
    ],
)
def test_unusable_paths_are_refused(
    check: Callable[[str], Path], name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    Path("link").symlink_to("nowhere")
    with pytest.raises(UserError) as caught:
        check(name)
    assert str(caught.value).startswith(words)


def test_an_unknown_home_folder_is_refused() -> None:
    assert expanded("~/photos") == Path.home() / "photos"
    for check in (check_file, check_folder, check_out_folder):
        for user in ("~nobody-here", "~a\0b", "~a\nb"):
            with pytest.raises(UserError) as caught:
                check(f"{user}/photos")
            assert str(caught.value) == f"{user + '/photos'!r}: unknown home folder {user!r}; write the full path"


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match=f"^'{file}/x/y': '{file}' is a file; name a folder to write to$"):
        check_out_folder(file / "x" / "y")


@not_root
def test_permissions(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch(0o200)
    with pytest.raises(UserError, match="permission denied; make the file readable"):
        check_file(file)
    closed = tmp_path / "closed"
    closed.mkdir(0o500)
    with pytest.raises(UserError, match=f"permission denied in '{closed}'; name a folder that you can write to"):
        check_out_folder(closed / "new")
