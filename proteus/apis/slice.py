"""Make a small model of a large one without training: ``proteus slice``."""

from __future__ import annotations

import shlex
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope
from torch import Tensor
from tqdm import tqdm

from proteus.apis.auto_values import Auto, format_table, this_machine
from proteus.apis.distillation.config_values import val_pipeline
from proteus.apis.distillation.data import RunImages, find_images
from proteus.apis.distillation.model import without_weights
from proteus.apis.distillation.pair import Pair, resolve_pair
from proteus.apis.export import export
from proteus.apis.resources import check_device, check_out_folder
from proteus.checkpoints import export_backbone
from proteus.datasets import seeded
from proteus.datasets.proxy.fitting_views import read_fitting_views, read_views
from proteus.evaluation.input_checks import is_integer
from proteus.evaluation.token_regression import TokenRegression
from proteus.models import Teacher
from proteus.models.backbones import architecture_of, build_backbone, weights_of
from proteus.models.distillers.data_preprocessor import DistillDataPreprocessor
from proteus.models.initialization import check_slice, noise_images, slice_teacher
from proteus.registry import DATASETS
from proteus.structures import UserError

# Views of noise for a fit without images.
_NOISE_VIEWS = 512
_MAX_HELD_OUT = 200
_MAX_WORKERS = 8
_WRITTEN = ("model.safetensors", "config.json", "config.py", "README.md")


@dataclass(frozen=True)
class SliceResult:
    """What a slice wrote.

    Attributes:
        out: The model folder.
        student: The student's weights in it.
        errors: For each block the fraction of the teacher's variance that it leaves unexplained, on the fitting views.
        metrics: ``centered_cosine_cls``, ``centered_cosine_patch``, ``unexplained_variance_cls`` and
            ``unexplained_variance_patch`` on held-out images, after a linear map to the teacher's tokens; empty without
            images.
    """

    out: Path
    student: Path
    errors: list[float]
    metrics: dict[str, float] = field(default_factory=dict)


def slice(
    teacher: str,
    student: str = "vit_small",
    *,
    data: str | Path | Sequence[str | Path] | None = None,
    out: str | Path,
    views: int = 1024,
    img_size: int | str = "auto",
    device: str | None = None,
    download: bool = False,
) -> SliceResult:
    """Make a small ViT of a larger one without training, and write a model folder.

    The student gets the teacher's weights, cut to its size and fitted block by block by least squares on a few hundred
    views of the images (docs/initialization.md).

    Args:
        teacher: Name, weight file or folder of the teacher, as :func:`proteus.load_backbone` takes it.
        student: ``vit_tiny``, ``vit_small``, ``vit_base``, ``vit_large`` or ``timm/NAME``, no wider than the teacher. A
            slice of a DINOv3 is one too: ``timm/vit_small_patch16_dinov3``.
        data: Folder of images with any subfolders, several of them, or ``packaged``. A few per cent of the images,
            chosen by name, are held out to compare the two.
        out: Folder to write.
        views: Views to fit on; as many others are read for the comparison. 0 fits on noise, without ``data``, which is
            worse.
        img_size: Side of the images in pixels; ``auto`` is at most 224, and 112 on a CPU.
        device: Device to compute on; by default a GPU if there is one.
        download: Download the teacher's weights if they are not on this machine.

    Returns:
        The folder, the errors by block, and the agreement with the teacher on held-out images.

    Raises:
        UserError: An argument is wrong, ``out`` holds a model, the student is not a slice of the teacher, or weights
            are missing.
        DataError: A folder has too few images.
        FullDiskError: The disk is full.
    """
    folder = _check_arguments(data, out, views)
    device = check_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    init_default_scope("proteus")
    # 1. names and sizes
    images = None if data is None else find_images(data)
    machine = this_machine(torch.device(device).type, 1)
    pair = resolve_pair(teacher, student, img_size, machine, download)
    _check_pair(pair)
    print(format_table(_rows(pair, images, views)), flush=True)
    # 2. models and images
    start = time.time()
    with seeded(0):
        ours, theirs = _build(pair, device)
    preprocessor = DistillDataPreprocessor(pair.teacher_record.mean, pair.teacher_record.std).to(device)
    size, workers = int(pair.img_size.value), min(machine.cores, _MAX_WORKERS)
    read, broken = (None, 0) if images is None else _views(images, views, size, workers, preprocessor)
    # 3. fit
    given = noise_images(_NOISE_VIEWS, size).to(device) if read is None else read[:views]
    with tqdm(desc="slicing", unit="block", file=sys.stderr) as bar:
        errors = slice_teacher(ours, theirs, given, on_block=lambda *block: _show_block(bar, *block))
    print(_error_table(errors), flush=True)
    # 4. comparison
    metrics = {}
    if images is not None and read is not None:
        regression = TokenRegression(ours, theirs)
        regression.fit(read[views:])
        held_out, broken_too = _held_out(images, size, workers, preprocessor)
        metrics = regression.measure(held_out)
        # What the card counts. Not all images were read.
        images = replace(images, train=images.train - broken, held_out=images.held_out - broken_too)
    # 5. model folder
    facts = _facts(pair, images, views, metrics, time.time() - start, _command(pair, data, views, img_size, folder))
    _write(ours.cpu(), pair, folder, facts)
    print(_summary(folder, metrics))
    return SliceResult(folder, folder / "model.safetensors", errors, metrics)


def _check_arguments(data: Any, out: str | Path, views: Any) -> Path:
    if not is_integer(views) or views < 0:
        raise UserError(f"--views: found {views!r}, expected a positive integer, or 0 for a fit without images")
    if data is None and views:
        raise UserError(
            "--data is missing: name a folder of images, or write --views 0 for a fit on noise, without images"
        )
    if data is not None and not views:
        raise UserError("--views 0 is a fit without images, and --data names some: leave one of them out")
    folder = check_out_folder(out)
    there = [name for name in _WRITTEN if (folder / name).exists()]
    if there:
        raise UserError(f"--out {folder}: holds {', '.join(there)}, which would be overwritten; name another folder")
    return folder


def _check_pair(pair: Pair) -> None:
    """Check that the student can be a slice, before weights and images are read.

    Raises:
        UserError: It cannot.
    """
    with torch.device("meta"):
        student, backbone = (build_backbone(without_weights(each)) for each in (pair.student, pair.teacher))
    try:
        check_slice(student, _Unread(backbone))
    except ValueError as error:
        reason = str(error).replace("model.student", "the student").replace("model.teacher.backbone", "the teacher")
        raise UserError(f"--student {pair.names[1]}: {reason}") from error


@dataclass(frozen=True)
class _Unread:
    """A teacher on the meta device."""

    backbone: Any
    sharded: bool = False

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width in which images of ``size`` enter it: the same."""
        return size


def _rows(pair: Pair, images: RunImages | None, views: int) -> dict[str, Auto]:
    rows = {**pair.rows(), "img_size": pair.img_size}
    if images is None:
        return {**rows, "views": Auto(_NOISE_VIEWS, "noise: a fit without images, which is worse")}
    held_out = f"{images.held_out:,} more are held out to compare student and teacher"
    return {**rows, "images": Auto(f"{images.train:,}", held_out), "views": Auto(f"{views:,}", "to fit the student on")}


def _build(pair: Pair, device: str) -> tuple[Any, Teacher]:
    record = pair.teacher_record
    student: Any = build_backbone(pair.student)
    statistics = {"mean": record.mean, "std": record.std, "input_mean": record.mean, "input_std": record.std}
    teacher = Teacher(pair.teacher, dtype="float32", **statistics)
    teacher.to_device(torch.device(device))
    return student.requires_grad_(False).eval().to(device), teacher


def _views(images: RunImages, views: int, size: int, workers: int, preprocessor: Any) -> tuple[Tensor, int]:
    """Return views to fit the student on and as many others, and the number of images that cannot be read."""
    dataset = DATASETS.build(images.dataset("train", []))
    return _read(read_fitting_views(dataset, views, size, title="fitting views", num_workers=workers), preprocessor)


def _held_out(images: RunImages, size: int, workers: int, preprocessor: Any) -> tuple[Tensor, int]:
    """Return held-out images, and the number of those that cannot be read."""
    dataset = DATASETS.build(images.dataset("held-out", val_pipeline(size, cached=False)))
    keys = range(min(len(dataset), _MAX_HELD_OUT))
    return _read(read_views(dataset, keys, "held-out images", num_workers=workers), preprocessor)


def _read(batches: Iterable[dict[str, Any]], preprocessor: Any) -> tuple[Tensor, int]:
    """Return the images of batches, and the number of images that cannot be read, after a line for each."""
    images: list[Tensor] = []
    corrupt: set[str] = set()
    for batch in batches:
        corrupt.update(name for data_sample in batch["data_samples"] for name in data_sample.corrupt)
        images.append(preprocessor(batch)["inputs"])
    for name in sorted(corrupt):
        print(f"unreadable image replaced: {name}", file=sys.stderr)
    return torch.cat(images), len(corrupt)


def _show_block(bar: Any, number: int, count: int, error: float) -> None:
    bar.total = count
    bar.update()


def _error_table(errors: Sequence[float]) -> str:
    lines = [f"{number:>5}  {error:.3f}" for number, error in enumerate(errors, 1)]
    return "\n".join(["", "block  fraction of the teacher's variance unexplained, on the fitting views", *lines, ""])


def _command(pair: Pair, data: Any, views: int, img_size: int | str, out: Path) -> str:
    words = ["proteus", "slice", "--teacher", pair.names[0], "--student", pair.names[1]]
    if data is not None:
        words += ["--data", *([str(data)] if isinstance(data, (str, Path)) else map(str, data))]
    words += ["--views", str(views), *(["--img-size", str(img_size)] if img_size != "auto" else [])]
    return shlex.join([*words, "--out", str(out)])


def _facts(
    pair: Pair, images: RunImages | None, views: int, metrics: dict[str, float], seconds: float, command: str
) -> dict[str, Any]:
    """Return what the model card says."""
    record = pair.teacher_record
    facts: dict[str, Any] = {
        "title": f"{str(pair.student_record.title).removesuffix(', random weights')} sliced from {pair.title}",
        "teacher": pair.title,
        "teacher_licence": record.licence,
        "teacher_hub_id": record.hub_id or "",
        "training": {"training": "none", "fitting time": f"{seconds:.0f} s"},
        "metrics": {},
        "command": command,
        "notes": [
            "This model was not trained. Its weights are a slice of the teacher's: principal directions of the stream, "
            "attention heads and hidden units, fitted block by block by least squares."
        ],
    }
    if images is None:
        facts["notes"].append(f"It was fitted on {_NOISE_VIEWS} images of noise, which is worse than a fit on images.")
    else:
        facts |= {"data": images.name, "images": images.train}
        facts["training"] |= {"fitting views": views, "held-out images": images.held_out}
    for name, title in (("cls", "class token"), ("patch", "patch tokens")):
        if metrics:
            cosine, left = metrics[f"centered_cosine_{name}"], metrics[f"unexplained_variance_{name}"]
            row = f"{title}, agreement with the teacher's after a linear map, held-out images"
            facts["metrics"][row] = f"centred cosine {cosine:.3f}, {left:.1%} of the variance unexplained"
    return {name: value for name, value in facts.items() if value}


def _write(student: Any, pair: Pair, out: Path, facts: Any) -> None:
    architecture, arguments = architecture_of(student)
    description = {
        "architecture": architecture,
        "arguments": arguments,
        "mean": list(pair.teacher_record.mean),
        "std": list(pair.teacher_record.std),
        "teacher": pair.title,
    }
    with tempfile.TemporaryDirectory(prefix="proteus-slice-") as folder:
        path = export_backbone(weights_of(student), Path(folder, "student.safetensors"), description)
        export(path, out, facts=facts)


def _summary(out: Path, metrics: dict[str, float]) -> str:
    lines = [""]
    if metrics:
        lines.append(f"{'agreement with the teacher, held-out':<40}{'centred cosine':>16}{'unexplained':>13}")
        for name, title in (("patch", "patch tokens"), ("cls", "class token")):
            cosine, left = metrics[f"centered_cosine_{name}"], metrics[f"unexplained_variance_{name}"]
            lines.append(f"{title:<40}{cosine:>16.3f}{left:>13.3f}")
        lines.append("")
    lines += [
        f"model folder: {out}  (README.md says how to load it in other tools)",
        "  import proteus",
        f"  backbone = proteus.load_backbone({str(out)!r})",
    ]
    return "\n".join(lines)
