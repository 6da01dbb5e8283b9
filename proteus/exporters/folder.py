"""The model folder: every format of one backbone, the facts to prepare images with, and the model card."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process

from proteus.exporters import hugging_face, openmmlab, timm_files
from proteus.exporters.card import write_card
from proteus.exporters.compare import ExportError
from proteus.exporters.facts import FILE, check_facts, read_facts, write_facts
from proteus.exporters.model import ExportModel, FormatSkippedError
from proteus.exporters.onnx_file import write_onnx
from proteus.exporters.program import write_program
from proteus.models.heads.head_file import HEADS
from proteus.structures import DataError, UserError
from proteus.utils.atomic import write_bytes, write_json
from proteus.utils.lock import exclusive

FORMATS = ("timm", "hf", "openmmlab", "onnx", "program")
"""Formats that can be written."""
_PREPROCESSOR, _CARD = "preprocessor.json", "README.md"
_FILES = {
    "timm": timm_files.FILES,
    "hf": tuple(f"hf/{name}" for name in hugging_face.FILES),
    "openmmlab": tuple(f"openmmlab/{name}" for name in openmmlab.FILES),
    "onnx": ("model.onnx",),
    "program": ("model.pt2",),
    "ema": tuple(f"ema/{name}" for name in timm_files.FILES),
    "heads": (HEADS,),
    "": (_PREPROCESSOR, _CARD, FILE),
}
_LOCK, _NEW = ".export.lock", ".export.new"


@dataclass(frozen=True)
class ModelFolder:
    """Result of an export.

    Attributes:
        path: The folder.
        written: Formats that were written, and the class that opens each, if there is a choice.
        skipped: Formats that were not written, and the reason.
        differences: Largest difference of a feature from torch, by format, as far as it was measured.
    """

    path: Path
    written: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)


def write_model_folder(
    model: ExportModel,
    out: Path,
    formats: Sequence[str] | None = None,
    *,
    ema: ExportModel | None = None,
    heads: bytes | None = None,
    facts: Mapping[str, Any] | None = None,
    dynamic_size: bool = False,
    opset: int | None = None,
    benchmark: Callable[[Path, Collection[str]], Mapping[str, Any]] | None = None,
    overwrite: bool = False,
    source: Path | None = None,
    report: Callable[[str], None] = print,
) -> ModelFolder:
    """Write a model folder, or add formats to one of the same weights.

    Every file appears under its name only when it is complete. With several processes, all call this function, and the
    first one writes.

    Args:
        model: The model.
        out: Folder to write to; it may hold other files, such as a config and a run.
        formats: Of :data:`FORMATS`. None writes those that the model can have, and skips the others with a line.
        ema: Exponential moving average of the weights, written to ``ema``.
        heads: Content of ``heads.safetensors``, which maps the model's tokens to its teacher's space.
        facts: For the card; see :class:`~proteus.exporters.facts.CardFacts`.
        dynamic_size: Let ``onnx`` and ``program`` take images of any size.
        opset: Version of the operators of ONNX.
        benchmark: Measures the formats that were written now; its result is added to the card.
        overwrite: Replace a model folder of other weights, once every new file is complete.
        source: File or folder that the model was loaded from; an export that would remove it is refused.
        report: Prints a line.

    Returns:
        What was written.

    Raises:
        UserError: A format is unknown; ``out`` holds other weights or other files of these names; a requested format
            cannot be written; the source would be removed.
        LockedError: Another process exports to ``out``.
        FullDiskError: The disk is full.
    """
    chosen = _check_formats(formats)
    check_facts(facts or {})
    with exclusive(out, "exporting", _LOCK), ExitStack() as stack:
        result = ModelFolder(out)
        if not is_main_process():
            return result
        digest = model.digest
        known, obsolete = _known(out, digest, overwrite)
        _check_source(out, source, obsolete, chosen)
        folder = stack.enter_context(_replacement(out, obsolete)) if obsolete else out
        write_facts(folder, {**known, "weights": digest})  # from here on, an interrupted export can be completed
        write_json(folder / _PREPROCESSOR, _preprocessor(model), indent=2)
        writers = _writers(model, folder, dynamic_size, opset)
        for name in chosen:
            try:
                found = writers[name]()
            except (FormatSkippedError, ExportError) as error:
                if formats is not None:
                    raise type(error)(f"--formats {name}: {error}") from error
                result.skipped[name] = str(error)
                report(f"{name}: skipped, {error}")
                continue
            sized = name in ("onnx", "program")
            detail = ("images of any size" if dynamic_size else f"images of {model.img_size} px") if sized else ""
            result.written[name] = found if isinstance(found, str) else detail
            if isinstance(found, float):
                result.differences[name] = found
            report(f"{name}: {_line(name, found, out)}")
        if ema is not None:
            with suppress(FormatSkippedError):  # another toolbox's: its weights are written
                timm_files.write_timm(ema, folder / "ema")
            report(f"ema: {out / 'ema'}")
        if heads is not None:
            write_bytes(folder / HEADS, heads)
            report(f"heads: {out / HEADS}")
        content = _merged(known, result, facts, ema is not None)
        content["heads"] = heads is not None or bool(known.get("heads"))
        if benchmark is not None:
            content["benchmark"] = dict(benchmark(folder, result.written))
        write_facts(folder, {**content, "weights": digest})
        write_card(model, folder, content)
        report(f"card: {out / _CARD}")
    return result


def _check_formats(formats: Sequence[str] | None) -> list[str]:
    names = list(FORMATS if formats is None else formats)
    for name in names:
        if name not in FORMATS:
            raise UserError(f"--formats {name}: choose from: {', '.join(FORMATS)}")
    if not names:
        raise UserError(f"--formats names none; choose from: {', '.join(FORMATS)}")
    return [name for name in FORMATS if name in names]


def _known(out: Path, digest: str, overwrite: bool) -> tuple[dict[str, Any], list[str]]:
    """Read what earlier exports wrote into a folder.

    Returns:
        The facts, if they are about the same weights; and the files of other weights that will be replaced.

    Raises:
        UserError: Without ``overwrite``, there are such files, or the facts are damaged.
    """
    try:
        known = read_facts(out)
    except DataError:
        if not overwrite:
            raise
        known = {}
    if known.get("weights") == digest:
        return known, []
    present = [name for names in _FILES.values() for name in names if (out / name).exists()]
    if present and not overwrite:
        what = "the exported files of other weights" if known else f"{present[0]}, which this export would replace"
        raise UserError(f"{out} holds {what}; name another folder, or add --overwrite")
    return {}, present


def _check_source(out: Path, source: Path | None, obsolete: Collection[str], formats: Collection[str]) -> None:
    """Check that the files which will be removed are not those that the model was loaded from."""
    if source is None:
        return
    file = source / "config.json" if source.is_dir() else source
    if not file.is_file():  # the source is the name of a model
        return
    for name, files in _FILES.items():
        if name not in formats and any(one in obsolete and (out / one).samefile(file) for one in files):
            remedy = f", or add {name} to --formats" if name in FORMATS else ""
            raise UserError(f"--overwrite would remove {file}, the source; name another folder{remedy}")


@contextmanager
def _replacement(out: Path, obsolete: Collection[str]) -> Iterator[Path]:
    """Yield a folder for new files; if the block ends without an error, they replace those of other weights."""
    new = out / _NEW
    shutil.rmtree(new, ignore_errors=True)  # of an export that was killed
    try:
        yield new
        for name in (FILE, *obsolete):  # the facts first: they do not vouch for what is left of the others
            (out / name).unlink(missing_ok=True)
        for path in [path for path in new.rglob("*") if path.is_file()]:
            target = out / path.relative_to(new)
            target.parent.mkdir(exist_ok=True)
            os.replace(path, target)
        for part in {(out / name).parent for name in obsolete} - {out}:
            with suppress(OSError):  # it has new files, or files of others
                part.rmdir()
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _preprocessor(model: ExportModel) -> dict[str, Any]:
    resizes: dict[str, dict[str, Any]] = {
        "center": {"resize_shorter_side": model.resize},
        "squash": {"resize": [model.resize, model.resize]},
        "border": {"resize_longer_side": model.resize, "border": list(model.mean)},
    }
    return {
        "size": [model.img_size, model.img_size],
        **resizes[model.crop_mode],
        "interpolation": model.interpolation,
        "crop": "center",
        "crop_pct": model.crop_pct,
        "channels": "RGB",
        "range": [0, 1],
        "mean": list(model.mean),
        "std": list(model.std),
    }


def _writers(
    model: ExportModel, out: Path, dynamic_size: bool, opset: int | None
) -> dict[str, Callable[[], str | float]]:
    return {
        "timm": lambda: timm_files.write_timm(model, out),
        "hf": lambda: hugging_face.write_hugging_face(model, out / "hf"),
        "openmmlab": lambda: openmmlab.write_openmmlab(model, out / "openmmlab"),
        "onnx": lambda: write_onnx(model, out / "model.onnx", dynamic_size, opset),
        "program": lambda: write_program(model, out / "model.pt2", dynamic_size),
    }


def _line(name: str, found: str | float, out: Path) -> str:
    path = out / (_FILES[name][0] if len(_FILES[name]) == 1 else Path(_FILES[name][0]).parent)
    return f"{path}, {found if isinstance(found, str) else f'largest difference from torch {found:.1e}'}"


def _merged(
    known: Mapping[str, Any], result: ModelFolder, facts: Mapping[str, Any] | None, ema: bool
) -> dict[str, Any]:
    """Combine what earlier exports into the folder wrote with what this one wrote."""
    written = {**known.get("written", {}), **result.written}
    skipped = {**known.get("skipped", {}), **result.skipped}
    return {
        **known,
        "facts": {**known.get("facts", {}), **(facts or {})},
        "written": {name: written[name] for name in FORMATS if name in written},
        "skipped": {name: reason for name, reason in skipped.items() if name not in written},
        "differences": {**known.get("differences", {}), **result.differences},
        "ema": ema or bool(known.get("ema")),
    }
