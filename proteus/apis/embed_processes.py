"""Embed images on several processes that are started for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from proteus.apis.launch import check_gpus, run_on
from proteus.evaluation.features.table_files import check_names, described
from proteus.evaluation.input_checks import is_integer
from proteus.structures import UserError
from proteus.utils import write_text


def check_gpu_count(gpus: Any, device: str | None) -> int:
    """Return a number of GPUs if this machine has as many.

    Raises:
        UserError: It has fewer, it is not a number, or a device is given too.
    """
    if not is_integer(gpus) or gpus < 0:
        raise UserError(f"gpus={gpus!r}: write a non-negative integer, or None")
    if gpus and device is not None:
        raise UserError(f"gpus={gpus} and device={device!r}: write one of them")
    try:
        return check_gpus(gpus)
    except UserError as error:
        raise UserError(f"gpus={gpus}: {error}") from error


def embed_on(
    processes: int,
    backbone: str | Path,
    data: str | Path | Iterable[str | Path],
    path: Path,
    options: Mapping[str, Any],
    download: bool = False,
    cpu: bool = False,
) -> dict[str, Any]:
    """Run ``proteus embed`` on several processes.

    Args:
        processes: Number of processes.
        backbone: As for :func:`~proteus.apis.embed.embed`.
        data: Likewise.
        path: File to write.
        options: Values by option; None leaves an option out.
        download: Download weights that are not on disk.
        cpu: Hide the GPUs.

    Returns:
        The description of the file.

    Raises:
        UserError: The processes failed; they have printed the reason.
    """
    with TemporaryDirectory() as folder:
        source = str(data)
        if not isinstance(data, (str, Path)):
            names = [str(each) for each in data]
            check_names(path.with_suffix(".npy"), names)
            source = f"{folder}/images.txt"
            write_text(source, "".join(f"{name}\n" for name in names))
        command = ["embed", "--launcher", "pytorch", "--backbone", str(backbone), "--data", source, "--out", str(path)]
        for name, value in options.items():
            command += [] if value is None else [f"--{name}", str(value)]
        status = run_on(processes, [*command, *(["--download"] if download else [])], cpu)
    about = described(path) if status in (0, 1) else None
    if about is None:
        raise UserError(f"embedding on {processes} processes ended with status {status}; see the error above")
    return about
