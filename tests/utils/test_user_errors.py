import errno
from pathlib import Path

import pytest
import torch

from proteus.structures import DataError, UserError
from proteus.utils.user_errors import mistake, name_and_words

WORKER = """Caught {name} in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "worker.py", line 1, in _worker_loop
{line}"""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("a.py: lr is missing"), "a.py: lr is missing"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.txt"), "a.txt: no such file or folder"),
        (OSError(errno.ENOSPC, "No space left", "a"), "a: no space left on the disk; make room and give the same"),
        (OSError(errno.EIO, "Input/output error", "a"), "a: input/output error"),
        (PermissionError("the folder cannot be written"), "the folder cannot be written"),
        (ModuleNotFoundError("No module named 'x'", name="x"), "No module named 'x'; install the package"),
        (MemoryError(), "not enough memory (the arrays do not fit); use a smaller batch"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "not enough memory (CUDA out of memory. Tried); use"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "a process that reads images was"),
    ],
)
def test_mistakes_of_a_user(error: Exception, words: str) -> None:
    assert (mistake(error) or "").startswith(words)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError("x"),
        RuntimeError("shapes do not match"),
        OSError("x"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        OSError(errno.EBADF, "Bad file descriptor"),
        ModuleNotFoundError("No module named 'proteus.x'", name="proteus.x"),
    ],
)
def test_bugs_are_not_mistakes(error: Exception) -> None:
    assert mistake(error) is None


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("DataError", "proteus.structures.errors.DataError: a.jpg: truncated", "a.jpg: truncated"),
        ("UserError", "UserError: a: b", "a: b"),
        ("ValueError", "ValueError: x", None),
    ],
)
def test_an_error_of_a_worker_is_recognised(name: str, line: str, words: str | None) -> None:
    assert mistake(RuntimeError(WORKER.format(name=name, line=line))) == words


def test_name_and_words() -> None:
    assert name_and_words(DataError("x")) == ("DataError", "x")
    assert name_and_words(RuntimeError(WORKER.format(name="OSError", line="OSError: x"))) == ("OSError", "x")


def test_an_error_without_a_name_takes_that_of_the_open_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def save() -> None:
        with path.open("w") as open_file:
            open_file.write("x")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        save()
    assert (mistake(caught.value) or "").startswith(f"{path}: no space left on the disk")
