"""Embed images: one row of features per file."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from mmengine.dist import barrier, get_dist_info, get_world_size
from tqdm import tqdm

from proteus.apis.embed_processes import check_gpu_count, embed_on
from proteus.apis.resources import check_device, check_out_folder, expanded
from proteus.evaluation.features.encoder import NamedBackbone, TokenEncoder, Tokens
from proteus.evaluation.features.extraction import digest_states, extract_rows, file_states
from proteus.evaluation.features.image_paths import CenterCrops, ImagePaths, collate_crops, find_images
from proteus.evaluation.features.rows import FEATURES, Record, open_rows, read_record
from proteus.evaluation.features.table_files import check_names, described, move_npy, write_npy, write_parquet
from proteus.evaluation.input_checks import is_integer
from proteus.models.zoo import backbone_spec, locate_model
from proteus.structures import CorruptImageError, DataError, UserError
from proteus.utils import exclusive, read_json, write_json
from proteus.utils.images import open_rgb
from proteus.utils.ranks import on_first_rank

_FORMATS = (".npy", ".parquet")


@dataclass(frozen=True)
class EmbedResult:
    """Where the features are.

    Attributes:
        out: The file of features.
        shape: ``(N, D)``; ``(N, P, D)`` for patch tokens.
        failed: A line for each image that could not be read and has no row.
    """

    out: Path
    shape: tuple[int, ...]
    failed: list[str]


def embed(
    backbone: str | Path,
    data: str | Path | Iterable[str | Path],
    out: str | Path,
    *,
    tokens: Tokens = "cls",
    arch: str | None = None,
    img_size: int | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    device: str | None = None,
    gpus: int | None = None,
    download: bool = False,
) -> EmbedResult:
    """Write the features of images to a file, one row per image.

    The same call resumes an interrupted one, with the same bytes as an uninterrupted one, and returns at once after a
    complete one. All ranks of a process group share the work if they call this together; rows and their order are those
    of one process. Images are resized and cropped as by
    :class:`~proteus.evaluation.features.image_paths.CenterCrops`.

    Args:
        backbone: Any name of :func:`proteus.load_backbone`.
        data: A folder, which is searched with its subfolders; a text file with one path per line, relative to the
            working directory; an image; or paths.
        out: File to write: ``.npy``, with the names of the files in ``<name>.files.txt`` and a description in
            ``<name>.about.json``; or ``.parquet`` with the columns ``file`` and ``embedding``.
        tokens: ``cls``: the class token, ``(N, D)``. ``mean``: the mean patch token, ``(N, D)``. ``cls+mean``: both,
            ``(N, 2D)``. ``patches``: all patch tokens, ``(N, P, D)``.
        arch: timm architecture, for a weight file that does not name it.
        img_size: Side of the images in pixels; by default the size that the backbone was trained at.
        batch_size: Images per forward pass.
        workers: Worker processes that read images, per rank; by default half the CPUs, at most 8.
        device: Device to compute on; by default a GPU if there is one, where features are computed in half precision.
        gpus: Run one process per GPU on this many, and wait for them; 0 uses the CPU. By default this process alone.
        download: Download weights that are not on disk.

    Returns:
        The file, its shape, and the images that could not be read.

    Raises:
        UserError: An argument is wrong, ``data`` has no image, or ``out`` holds something else.
        DataError: No image can be read, or features are not finite.
        LockedError: Another process writes ``out``.
        FullDiskError: The disk has too little space.
    """
    path = _check_arguments(out, tokens, batch_size, workers)
    data = expanded(data) if isinstance(data, (str, Path)) else data
    if gpus is not None and get_world_size() == 1:
        if check_gpu_count(gpus, device) > 1:
            options = {
                "tokens": tokens,
                "arch": arch,
                "img-size": img_size,
                "batch-size": batch_size,
                "workers": workers,
            }
            about = embed_on(gpus, backbone, data, path, options, download)
            return EmbedResult(path, tuple(about["shape"]), list(about["failed"]))
        device = device or ("cuda" if gpus else "cpu")
    device = check_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    partial = path.with_name(f".{path.name}.partial")
    # Listed once: a folder that changes meanwhile would give the ranks different batches.
    images = on_first_rank(lambda: find_images(data, skip=[partial]))
    check_names(path, images.names)
    found = _open_backbone(backbone, arch, img_size, download, device)
    files = on_first_rank(lambda: file_states(images.paths))
    about = _describe(found, images, files, tokens, device)
    existing = on_first_rank(lambda: described(path))
    if existing is not None:
        return _existing_result(path, existing, about)
    with exclusive(partial, "embedding images", remedy="wait for it, or name another file"):
        record = on_first_rank(lambda: _resumable(partial, about))
        count = min(8, (os.cpu_count() or 2) // 2) if workers is None else workers
        dataset, encode = CenterCrops(images.paths, found.img_size), TokenEncoder(found, tokens, device)
        extract_rows(
            dataset,
            encode,
            partial,
            record,
            lambda rows: digest_states(files[:rows]),
            "embedding",
            batch_size,
            count,
            collate_crops,
            remedy="with --out",
            copied=path.suffix.lower() == ".parquet",
        )
        result = on_first_rank(lambda: _write(path, partial, images, tokens, about))
    if get_dist_info()[0] == 0:
        shutil.rmtree(partial, ignore_errors=True)
    barrier()
    return result


def _check_arguments(out: str | Path, tokens: str, batch_size: Any, workers: Any) -> Path:
    path = expanded(out)
    if path.suffix.lower() not in _FORMATS:
        raise UserError(f"out='{out}': name a file that ends in {' or '.join(_FORMATS)}")
    check_out_folder(path.parent)
    if path.is_dir():
        raise UserError(f"out='{out}' is a folder; name a file")
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UserError(
                f"out='{out}': Parquet needs pyarrow; run pip install pyarrow, or name a file that ends in .npy"
            ) from None
    if tokens not in get_args(Tokens):
        raise UserError(f"tokens={tokens!r}: choose from: {', '.join(get_args(Tokens))}")
    if not is_integer(batch_size) or batch_size < 1:
        raise UserError(f"batch_size={batch_size!r}: write a positive integer")
    if workers is not None and (not is_integer(workers) or workers < 0):
        raise UserError(f"workers={workers!r}: write a non-negative integer, or None")
    return path


def _open_backbone(
    name: str | Path, arch: str | None, img_size: int | None, download: bool, device: str
) -> NamedBackbone:
    if img_size is not None and (not is_integer(img_size) or img_size < 1):
        raise UserError(f"img_size={img_size!r}: write a positive integer, the side of the images in pixels")
    side = img_size or locate_model(name, arch, None, download)[1].img_size
    spec = backbone_spec(str(name), arch, side, download)
    return NamedBackbone(spec.build().to(device), str(name), spec.mean, spec.std, side, spec.digest)


def _describe(
    backbone: NamedBackbone, images: ImagePaths, files: np.ndarray, tokens: str, device: str
) -> dict[str, Any]:
    """Return what the rows depend on, as JSON values."""
    names = hashlib.sha256("\0".join(images.names).encode("utf-8", "surrogateescape")).hexdigest()
    return {
        "backbone": backbone.name,
        "digest": backbone.digest,
        "tokens": tokens,
        "img_size": backbone.img_size,
        "mean": list(backbone.mean),
        "std": list(backbone.std),
        "precision": "float16" if device.startswith("cuda") else "float32",
        "images": len(images.names),
        "names": names,
        "files": digest_states(files),
    }


def _existing_result(path: Path, existing: dict[str, Any], about: dict[str, Any]) -> EmbedResult:
    """Return the result of an earlier call with the same arguments.

    Raises:
        UserError: The file is of another call.
    """
    different = [key for key, value in about.items() if existing.get(key) != value and key != "backbone"]
    if different:
        words = {"digest": "another backbone", "names": "other images", "files": "other versions of these images"}
        found = next((words[key] for key in words if key in different), f"another {different[0]}")
        raise UserError(f"{path} exists and holds features of {found}; remove it, or name another file")
    tqdm.write(f"{path} is complete", file=sys.stderr)
    return EmbedResult(path, tuple(existing["shape"]), list(existing["failed"]))


def _resumable(partial: Path, about: dict[str, Any]) -> Record | None:
    """Return the record of rows that can be kept; None if embedding must start from the first image."""
    path = partial / "about.json"
    try:
        earlier = read_json(path)
        record = read_record(partial)
        moved = not (partial / FEATURES).exists()  # killed after the table was moved, and the file was removed
        if earlier == about and record is not None and not moved:
            open_rows(partial, record)
            return record
        if record is not None and record.rows and not moved:
            tqdm.write(f"{partial}: an interrupted call had other arguments or images; starting again", file=sys.stderr)
    except FileNotFoundError:
        pass
    (partial / "rows.json").unlink(missing_ok=True)
    (partial / FEATURES).unlink(missing_ok=True)
    write_json(path, about)
    return None


def _write(path: Path, partial: Path, images: ImagePaths, tokens: str, about: dict[str, Any]) -> EmbedResult:
    """Write the readable rows to the final file."""
    record = read_record(partial)
    if record is None:
        raise DataError(f"{partial} was removed while images were embedded; run the same command again")
    rows = open_rows(partial, record)
    unreadable = np.isnan(rows[:, 0, 0])
    failed = [_reason(images.paths[index]) for index in np.flatnonzero(unreadable)]
    kept = np.flatnonzero(~unreadable)
    if not len(kept):
        raise DataError(f"none of the {len(images.paths)} images can be read, first {failed[0]}")
    shape = (len(kept), *(rows.shape[1:] if tokens == "patches" else rows.shape[2:]))
    about = {**about, "shape": list(shape), "failed": failed}
    names = [images.names[index] for index in kept]
    is_npy = path.suffix.lower() == ".npy"
    if failed or not is_npy or not move_npy(path, partial / FEATURES, shape, names, about):
        (write_npy if is_npy else write_parquet)(path, rows, kept, shape, names, about)
    return EmbedResult(path, shape, failed)


def _reason(path: str) -> str:
    """Say why an image cannot be read."""
    try:
        open_rgb(path)
    except CorruptImageError as error:
        return str(error)
    return f"{path} (it could not be read when it was embedded)"
