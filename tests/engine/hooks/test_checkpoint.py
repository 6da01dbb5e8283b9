"""A complete checkpoint is on disk at every moment, and a resumed run takes the newest."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_runs import assert_same_run, checkpoints, saved, toy_runner

from proteus.checkpoints import CheckpointError
from proteus.engine import AtomicCheckpointHook
from proteus.engine.runner.resume import find_damage
from proteus.structures import FullDiskError, UserError


class Killed(BaseException):
    """Simulates a kill: no error handler catches it."""


def kill_at(count: int, monkeypatch: pytest.MonkeyPatch, torn: bool = True) -> Callable[[], None]:
    """Interrupt writing the ``count``-th checkpoint half-way; returns a function that undoes this."""
    written = []

    def save(checkpoint: Any, filename: str, **_: Any) -> None:
        written.append(filename)
        real(checkpoint, filename)
        if len(written) == count:
            if torn:
                Path(filename).write_bytes(Path(filename).read_bytes()[:500])
            raise Killed

    import mmengine.runner.runner as module

    real = module.save_checkpoint
    monkeypatch.setattr(module, "save_checkpoint", save)
    return monkeypatch.undo


def test_killed_within_each_save_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``max_keep_ckpts=1`` there is a whole checkpoint all the time, and the end is that of the unbroken run."""
    keep = {"default_hooks__checkpoint__max_keep_ckpts": 1}
    toy_runner(tmp_path / "whole", **keep).train()
    assert checkpoints(tmp_path / "whole") == {"iter_6.pth"}
    for count in (1, 2, 3):
        folder = tmp_path / f"killed{count}"
        undo = kill_at(count, monkeypatch)
        with pytest.raises(Killed):
            toy_runner(folder, **keep).train()
        undo()
        assert {name for name in checkpoints(folder) if not name.startswith(".")} == (
            {f"iter_{2 * count - 2}.pth"} if count > 1 else set()
        )
        toy_runner(folder, resume=True, **keep).train()
        assert checkpoints(folder) == {"iter_6.pth"}
        assert_same_run(folder / "iter_6.pth", tmp_path / "whole/iter_6.pth")


def test_an_older_checkpoint_goes_only_when_the_new_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    remove = AtomicCheckpointHook._remove

    def look(hook: AtomicCheckpointHook, path: str) -> None:
        seen.append((Path(path).name, sorted(checkpoints(tmp_path)), (tmp_path / "last_checkpoint").read_text()))
        remove(hook, path)

    monkeypatch.setattr(AtomicCheckpointHook, "_remove", look)
    toy_runner(tmp_path, max_iters=4, default_hooks__checkpoint__max_keep_ckpts=1).train()
    assert seen == [("iter_2.pth", ["iter_2.pth", "iter_4.pth"], str(tmp_path / "iter_4.pth"))]


def test_what_a_run_killed_before_it_removed_an_old_checkpoint_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(hook: AtomicCheckpointHook, path: str) -> None:
        raise Killed

    keep = {"default_hooks__checkpoint__max_keep_ckpts": 1}
    runner = toy_runner(tmp_path, **keep)
    with monkeypatch.context() as patch:
        patch.setattr(AtomicCheckpointHook, "_remove", killed)
        with pytest.raises(Killed):
            runner.train()
    (tmp_path / ".iter_4.pth.elsewhere-99.tmp").touch()
    assert checkpoints(tmp_path) == {"iter_2.pth", "iter_4.pth", ".iter_4.pth.elsewhere-99.tmp"}
    toy_runner(tmp_path, resume=True, **keep).train()
    assert checkpoints(tmp_path) == {"iter_6.pth"}


BEST: dict[str, Any] = {
    "train_cfg__val_interval": 2,
    "default_hooks__checkpoint__save_best": "toy/error",
    "default_hooks__checkpoint__rule": "less",
    "default_hooks__checkpoint__max_keep_ckpts": 1,
}


def test_the_best_checkpoint_is_replaced_by_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"val_evaluator__values": [3.0, 5.0, 1.0]}
    toy_runner(tmp_path / "whole", **BEST, **values).train()
    assert checkpoints(tmp_path / "whole") == {"iter_6.pth", "best_toy_error_iter_6.pth"}
    assert saved(tmp_path / "whole/iter_6.pth")["message_hub"]["runtime_info"]["best_score"] == 1.0
    # Saves: 2, best 2, 2 once more, 4, 6, best 6.
    undo = kill_at(6, monkeypatch)
    with pytest.raises(Killed):
        toy_runner(tmp_path / "killed", **BEST, **values).train()
    undo()
    assert {"iter_6.pth", "best_toy_error_iter_2.pth"} <= checkpoints(tmp_path / "killed")


def test_the_best_of_a_moved_run_is_still_replaced(tmp_path: Path) -> None:
    toy_runner(tmp_path / "first", max_iters=2, **BEST, val_evaluator__values=[3.0]).train()
    shutil.move(tmp_path / "first", tmp_path / "moved")
    toy_runner(tmp_path / "moved", max_iters=4, resume=True, **BEST, val_evaluator__values=[1.0]).train()
    assert checkpoints(tmp_path / "moved") == {"iter_4.pth", "best_toy_error_iter_4.pth"}
    assert not (tmp_path / "first").exists()


def test_the_last_checkpoint_is_never_written_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``save_best`` writes the newest once more, after validation."""
    undo = kill_at(3, monkeypatch)
    with pytest.raises(Killed):
        toy_runner(tmp_path, **BEST).train()
    undo()
    assert find_damage(tmp_path / "iter_2.pth") is None
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "iter_2.pth")


def test_a_full_disk_names_the_file_and_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mmengine.runner.runner as module

    real = module.save_checkpoint

    def save(checkpoint: Any, filename: str, **_: Any) -> None:
        if "iter_4" in filename:
            Path(filename).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(checkpoint, filename)

    monkeypatch.setattr(module, "save_checkpoint", save)
    with pytest.raises(FullDiskError, match=r"iter_4\.pth: no space left on the disk; earlier checkpoints are intact"):
        toy_runner(tmp_path, default_hooks__checkpoint__max_keep_ckpts=1).train()
    assert checkpoints(tmp_path) == {"iter_2.pth"}
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "iter_2.pth")


@pytest.mark.parametrize("value", [0, -2, 1.5, True, "2", None])
@pytest.mark.parametrize("name", ["interval", "max_keep_ckpts"])
def test_intervals_that_mean_nothing_are_refused(name: str, value: Any) -> None:
    with pytest.raises(
        (ValueError, TypeError), match=rf"AtomicCheckpointHook\.{name}=.*: write a whole number above 0"
    ):
        AtomicCheckpointHook(**{name: value})


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"train_cfg__max_iters": 0}, r"train_cfg\.max_iters=0: write a whole number above 0"),
        ({"train_cfg__max_iters": -5}, r"train_cfg\.max_iters=-5: write"),
        ({"train_cfg__val_interval": 0}, r"train_cfg\.val_interval=0: write"),
        ({**BEST, "default_hooks__checkpoint__save_best": "acc"}, r"unknown metric 'acc'; choose from: toy/\*"),
        (
            {**BEST, "val_dataloader": None, "val_cfg": None, "val_evaluator": None},
            r"save_best needs a validation",
        ),
    ],
)
def test_refused_before_the_first_step(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    runner = toy_runner(tmp_path, **keys)
    with pytest.raises(UserError, match=words):
        runner.train()
    assert runner.iter == 0
    assert not checkpoints(tmp_path)


def test_a_metric_that_only_the_validation_can_know_is_named_there(tmp_path: Path) -> None:
    keys = {**BEST, "default_hooks__checkpoint__save_best": "toy/eror"}
    with pytest.raises(UserError, match=r"save_best: unknown metric 'toy/eror'; choose from: toy/error"):
        toy_runner(tmp_path, **keys).train()


def test_the_part_that_mmengine_would_run_as_python_is_dropped(tmp_path: Path) -> None:
    toy_runner(tmp_path, max_iters=2).train()
    checkpoint = saved(tmp_path / "iter_2.pth")
    checkpoint["meta"]["config"] = f"open({str(tmp_path / 'sprung')!r}, 'w')"
    torch.save(checkpoint, tmp_path / "iter_2.pth")
    toy_runner(tmp_path, max_iters=4, resume=True).train()
    assert not (tmp_path / "sprung").exists()


def change_hub(path: Path, **info: Any) -> None:
    """Write a checkpoint again with other entries in its message hub."""
    checkpoint = saved(path)
    checkpoint["message_hub"]["runtime_info"].update(info)
    checkpoint["message_hub"]["resumed_keys"].update(dict.fromkeys(info, True))
    torch.save(checkpoint, path)


def test_only_checkpoints_of_the_folder_are_removed_for_a_checkpoint(tmp_path: Path) -> None:
    folder, others = tmp_path / "run", tmp_path / "others"
    toy_runner(folder, max_iters=2).train()
    for path in (others / "iter_1.pth", folder / "student.safetensors", folder / "kept/iter_1.pth", tmp_path / "a"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (folder / "iter_9.pth").mkdir()
    (folder / "iter_1.pth").touch()
    (folder / "best_toy_error_iter_1.pth").touch()
    names = [
        *(str(others), str(others / "iter_1.pth"), "../others", "../a", ".", "..", "student.safetensors", "kept"),
        *("kept/iter_1.pth", "best_/../../others/iter_1.pth", "iter_9.pth", 5, None, "iter_1.pth"),
        "best_toy_error_iter_1.pth",
    ]
    before = set(tmp_path.rglob("*"))
    change_hub(folder / "iter_2.pth", superseded_ckpts=names)
    toy_runner(folder, max_iters=2, resume=True).train()
    assert before - set(tmp_path.rglob("*")) == {folder / "iter_1.pth", folder / "best_toy_error_iter_1.pth"}
    change_hub(folder / "iter_2.pth", superseded_ckpts=5)
    toy_runner(folder, max_iters=2, resume=True).train()


@pytest.mark.parametrize("best", ["..", "student.safetensors", "kept", 5, "/"])
def test_nothing_but_a_checkpoint_is_removed_as_the_best(tmp_path: Path, best: Any) -> None:
    folder = tmp_path / "run"
    toy_runner(folder, max_iters=2, **BEST, val_evaluator__values=[3.0]).train()
    (folder / "student.safetensors").touch()
    (folder / "kept").mkdir()
    change_hub(folder / "iter_2.pth", best_ckpt=best)
    toy_runner(folder, max_iters=4, resume=True, **BEST, val_evaluator__values=[1.0]).train()
    assert (folder / "student.safetensors").is_file()
    assert (folder / "kept").is_dir()
    assert "best_toy_error_iter_4.pth" in checkpoints(folder)


@pytest.mark.parametrize("ids", [["../../a"], [2, True], [-1], 5, {"a": 1}])
def test_other_things_than_numbers_of_checkpoints_are_refused(tmp_path: Path, ids: Any) -> None:
    toy_runner(tmp_path, max_iters=2).train()
    change_hub(tmp_path / "iter_2.pth", keep_ckpt_ids=ids)
    with pytest.raises(CheckpointError, match=r"iter_2\.pth cannot be resumed from: .*keep_ckpt_ids"):
        toy_runner(tmp_path, max_iters=4, resume=True, default_hooks__checkpoint__max_keep_ckpts=1).train()


def test_checkpoints_with_padded_numbers_are_resumed_from_and_removed(tmp_path: Path) -> None:
    keep = {"default_hooks__checkpoint__max_keep_ckpts": 1, "default_hooks__checkpoint__filename_tmpl": "at_{:05d}.pth"}
    toy_runner(tmp_path, max_iters=2, **keep).train()
    (tmp_path / "last_checkpoint").unlink()
    (tmp_path / "at_00001.pth").touch()
    change_hub(tmp_path / "at_00002.pth", superseded_ckpts=["at_00001.pth"])
    toy_runner(tmp_path, max_iters=4, resume=True, **keep).train()
    assert checkpoints(tmp_path) == {"at_00004.pth"}
