"""Encode images in order and append the rows to a table, on one process or on several."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
from mmengine.dist import all_gather_object, get_dist_info
from torch.utils.data import DataLoader
from tqdm import tqdm

from proteus.evaluation.features.rows import Record, RowWriter
from proteus.structures import UserError

SECONDS_BETWEEN_MARKS = 20.0
"""Seconds of work that an interrupted extraction may repeat."""


def extract_rows(
    dataset: Any,
    encode: Callable[[Any], np.ndarray],
    folder: Path,
    record: Record | None,
    state: Callable[[int], str],
    title: str,
    batch_size: int,
    num_workers: int,
    collate_fn: Callable[[Sequence[Any]], Any],
    remedy: str = "with --cache",
    copied: bool = False,
) -> None:
    """Encode all images of a data set and append the rows to a table.

    All ranks of a process group call this together. Each encodes every ``world_size``-th batch, and rank 0 writes the
    rows in order: batches and rows are the same with any number of processes.

    Args:
        dataset: Samples by position.
        encode: Batch -> rows ``(B, T, D)`` float32.
        folder: Existing folder of the table.
        record: Record of the existing rows, which are kept; None starts a new table. The same on every rank.
        state: Number of rows -> digest of their image files; see :class:`Record`.
        title: Title of the progress bar.
        batch_size: Images per batch.
        num_workers: Worker processes that read images, per rank.
        collate_fn: Samples -> batch.
        remedy: How to choose another folder, for the message about a full disk.
        copied: As for :class:`~proteus.evaluation.features.rows.RowWriter`.

    Raises:
        UserError: What ``encode`` or the data set raised on any rank; all ranks raise it, so that none waits.
        FullDiskError: The disk has too little space for the table.
    """
    rank, world = get_dist_info()
    done, total = record.rows if record else 0, len(dataset)
    batches = [list(range(start, min(start + batch_size, total))) for start in range(done, total, batch_size)]
    own = batches[rank::world]
    loader = iter(DataLoader(dataset, batch_sampler=own, num_workers=num_workers, collate_fn=collate_fn))
    marked = time.monotonic()
    # Outside a terminal a fast bar would fill the log.
    refresh = 0.5 if sys.stderr.isatty() else 30.0
    with (
        RowWriter(folder, record, total, remedy, copied) if rank == 0 else nullcontext() as writer,
        tqdm(
            total=total, initial=done, desc=title, unit="img", mininterval=refresh, disable=rank > 0 or done == total
        ) as bar,
    ):
        for number in range(-(-len(batches) // world)):
            for rows in _gathered(_encoded(loader, encode) if number < len(own) else None):
                if writer is not None:
                    writer.append(rows)
                bar.update(len(rows))
            if writer is not None and time.monotonic() - marked > SECONDS_BETWEEN_MARKS:
                writer.mark(state(writer.rows))
                marked = time.monotonic()
        if writer is not None:
            writer.mark(state(writer.rows))


def file_states(names: Sequence[str]) -> np.ndarray:
    """Size and modification time ``(N, 2)`` of the file of each image; zeros for images without a file."""
    known: dict[str, tuple[int, int]] = {}

    def state(path: str) -> tuple[int, int]:
        # The name of an image in an archive is ARCHIVE/NUMBER.
        folder = os.path.dirname(path)
        if folder in known:
            return known[folder]
        try:
            found = os.stat(path)
        except NotADirectoryError:
            known[folder] = state(folder)
            return known[folder]
        except (OSError, ValueError):
            return 0, 0
        return found.st_size, found.st_mtime_ns

    return np.array([state(name) for name in names], np.int64).reshape(-1, 2)


def digest_states(files: np.ndarray) -> str:
    """Digest of what :func:`file_states` returns."""
    return hashlib.sha256(files.tobytes()).hexdigest()


def _encoded(loader: Iterator[Any], encode: Callable[[Any], np.ndarray]) -> np.ndarray | UserError:
    try:
        return encode(next(loader))
    except UserError as error:
        return error


def _gathered(result: np.ndarray | UserError | None) -> list[np.ndarray]:
    """Return the rows of all ranks in order, on rank 0; raise the first error of any rank on all of them."""
    rank, world = get_dist_info()
    errors = all_gather_object(result if isinstance(result, UserError) else None)
    for error in errors:
        if error is not None:
            raise error
    results: list[Any] = [result] if world == 1 else [None] * world
    if world > 1:
        dist.gather_object(result, results if rank == 0 else None)
    return [rows for rows in results if rows is not None]
