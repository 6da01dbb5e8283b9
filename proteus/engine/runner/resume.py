"""Choose the checkpoint that a run resumes from."""

from __future__ import annotations

import re
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.runner import Runner

from proteus.checkpoints import CheckpointError
from proteus.checkpoints.safe_globals import HARMLESS
from proteus.compat import checkpoint_of, is_resuming, set_checkpoint


class Found(NamedTuple):
    """The checkpoint to resume from.

    Attributes:
        path: The newest complete checkpoint; None if the folder has none.
        skipped: One line for each newer checkpoint that is damaged.
    """

    path: Path | None
    skipped: list[str]


def newest_complete(folder: str | Path, template: str = "iter_{}.pth", recorded_in: str | Path | None = None) -> Found:
    """Find the newest checkpoint that is not damaged.

    The file ``last_checkpoint`` decides if it names a checkpoint of this folder, even if the folder has been moved. If
    it is missing, empty or outdated, the time of saving in the checkpoints decides.

    Args:
        folder: Folder of the checkpoints.
        template: Names of the checkpoints, with ``{}`` for the number.
        recorded_in: Folder of ``last_checkpoint``; by default ``folder``.

    Raises:
        CheckpointError: All checkpoints are damaged.
    """
    folder = Path(folder)
    skipped: list[str] = []
    record = Path(recorded_in or folder) / "last_checkpoint"
    candidates = _newest_first(folder, template, record)
    for path in candidates:
        damage = find_damage(path)
        if damage is None:
            return Found(path, skipped)
        skipped.append(f"{path}: {damage}")
    if candidates:
        raise CheckpointError(
            f"{folder}: no checkpoint can be read ({'; '.join(skipped)}); resume from another one with "
            "--resume FILE, or start without --resume"
        )
    return Found(None, [])


def choose_checkpoint(runner: Runner, template: str, folder: str | Path, otherwise: str | None = None) -> None:
    """Make a runner with ``resume`` resume from the newest complete checkpoint, and log which one.

    Without any, it starts from iteration 0.

    Args:
        runner: The runner, before it has loaded anything.
        template: Names of its checkpoints, with ``{}`` for the number.
        folder: Folder of its checkpoints.
        otherwise: Weights to start from if no checkpoint exists.

    Raises:
        CheckpointError: On every rank: all checkpoints are damaged.
    """
    if not is_resuming(runner) or checkpoint_of(runner) is not None:
        return
    decision: list[tuple[Path | None, list[str], str]] = [(None, [], "")]
    if is_main_process():
        try:
            decision = [(*newest_complete(folder, template, runner.work_dir), "")]
        except CheckpointError as error:
            decision = [(None, [], str(error))]
    broadcast_object_list(decision)
    path, skipped, refusal = decision[0]
    if refusal:
        raise CheckpointError(refusal)
    for line in skipped:
        runner.logger.warning(f"skipping a damaged checkpoint: {line}")
    if path is None:
        start = f", with the weights of {otherwise}" if otherwise else ""
        runner.logger.warning(f"no checkpoint in {folder}: starting from iteration 0{start}")
        set_checkpoint(runner, otherwise, resume=False)
    else:
        runner.logger.info(f"resuming from {path}")
        set_checkpoint(runner, str(path), resume=True)


def find_damage(path: Path) -> str | None:
    """Read all bytes of a checkpoint and return a description of the damage, if any."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            return f"damaged ({broken})"
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError) as error:
        return f"damaged ({error or 'the file ends too early'})"
    return None


def _newest_first(folder: Path, template: str, record: Path) -> list[Path]:
    steps = dict(_numbered(folder, template))
    saved = {path: (_time_of(path), step) for path, step in steps.items()}
    ordered = sorted(steps, key=lambda path: saved[path], reverse=True)
    named = _named(record, folder)
    if named is None:
        return ordered
    if named.parent != folder:  # the record was copied from there; checkpoints of this folder come first
        return [*ordered, named]
    if named not in steps:  # another filename template
        return [named, *ordered]
    # A checkpoint that was saved just before a kill and not recorded is newer than the recorded one.
    later = [path for path in ordered if steps[path] > steps[named] and saved[path][0] >= saved[named][0]]
    earlier = [path for path in ordered if path not in later and path != named]
    # Files of an earlier, longer run come last.
    return [*later, named, *sorted(earlier, key=lambda path: (steps[path] < steps[named], saved[path]), reverse=True)]


def name_pattern(template: str) -> str:
    """Return a regular expression of the names that a template makes; its group is the number."""
    return r"(\d+)".join(re.escape(part) for part in re.split(r"\{[^{}]*\}", template))


def _numbered(folder: Path, template: str) -> Iterator[tuple[Path, int]]:
    pattern = re.compile(name_pattern(template))
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match and path.is_file():
            yield path, int(match[1])


def _named(record: Path, folder: Path) -> Path | None:
    try:
        text = record.read_text(encoding="utf-8", errors="surrogateescape").strip()
    except OSError:
        return None
    if not text:
        return None
    # If the folder was moved or copied, use the file in it, not the old one.
    here, there = folder / Path(text).name, Path(text)
    return here if here.is_file() else there if there.is_file() else None


def _time_of(path: Path) -> str:
    """Return when a checkpoint was saved, ``YYYYmmdd_HHMMSS``; the file's time if it is damaged."""
    try:
        with torch.serialization.safe_globals(HARMLESS):
            checkpoint = torch.load(path, map_location="meta", weights_only=True)
        return str(checkpoint["meta"]["time"])
    except Exception:  # torch raises many types for a damaged file
        return time.strftime("%Y%m%d_%H%M%S", time.localtime(path.stat().st_mtime))
