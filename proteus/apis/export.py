"""Export a backbone for other tools."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proteus.apis.resources import check_device, check_out_folder
from proteus.checkpoints import Description, locate, read_description
from proteus.checkpoints.load import open_weights
from proteus.checkpoints.parts import part_names
from proteus.checkpoints.paths import split_part
from proteus.structures import UserError

if TYPE_CHECKING:
    from proteus.exporters import CardFacts, ExportModel, ModelFolder
    from proteus.models.zoo.model_folder import InputFacts

_PICKLES = (".pth", ".pt", ".ckpt", ".tar", ".bin")


def export(
    source: str | Path,
    out: str | Path,
    formats: Sequence[str] | None = None,
    *,
    arch: str | None = None,
    img_size: int | None = None,
    dynamic_size: bool = False,
    opset: int | None = None,
    benchmark: bool = False,
    device: str | None = None,
    download: bool = False,
    overwrite: bool = False,
    facts: CardFacts | None = None,
    report: Callable[[str], None] = print,
) -> ModelFolder:
    """Write a model folder: a backbone in the formats of other tools, with a model card.

    The folder has ``model.safetensors`` and ``config.json`` (timm), ``hf/`` (transformers), ``openmmlab/`` (mmpretrain,
    mmseg), ``model.onnx``, ``model.pt2`` (torch.export), ``preprocessor.json`` and ``README.md``. If the source has an
    average of its weights (``student_ema.safetensors`` next to ``student.safetensors``, or a checkpoint with an EMA),
    ``ema/`` holds it for timm. Heads next to the source (``student_heads.safetensors``) are copied to
    ``heads.safetensors``, for ``load_backbone(out, mapped=True)``.

    Args:
        source: A weight file, with ``#ema`` or another part behind it; a model folder; or the name of a model, as
            :func:`proteus.load_backbone` takes it.
        out: Folder to write to. Other files in it stay; exported files of other weights are refused.
        formats: Of ``timm``, ``hf``, ``openmmlab``, ``onnx``, ``program``. None writes all that the model can have.
        arch: Name in timm of the architecture of a weight file, if it cannot be detected (CNNs).
        img_size: Side of the images in pixels; by default the size that the model was trained at.
        dynamic_size: Let ``onnx`` and ``program`` take images of any size.
        opset: Version of the operators of ONNX.
        benchmark: Measure latency and throughput by backend, and add them to the card.
        device: Device of the benchmark; by default a GPU if there is one.
        download: Download weights that are not on this machine.
        overwrite: Replace exported files of other weights.
        facts: What the card says about teacher, data and results; see :class:`proteus.exporters.CardFacts`.
        report: Prints a line.

    Returns:
        What was written and what was skipped.

    Raises:
        UserError: The source cannot be loaded, ``out`` holds other weights, or a requested format cannot be written.
        LockedError: Another process exports to ``out``.
        FullDiskError: The disk is full.
    """
    from proteus.exporters import write_model_folder

    folder = check_out_folder(out)
    if device is not None:
        check_device(device)
    model = _load(str(source), arch, img_size, download)
    average = _average_of(str(source), model, report)
    ema = None if average is None else model.with_backbone(_load(average, arch, img_size, download).backbone)
    known: dict[str, Any] = dict(facts or {})
    if _is_average(str(source)) or _delivers_average(str(source)):
        known.setdefault("weights", "ema")
    elif ema is not None or (model.iterations is not None and not locate(source).is_dir()):
        known.setdefault("weights", "plain")
    title = _title(str(source))
    if title:
        known.setdefault("title", title)
    measure = _benchmark(model, device, report) if benchmark else None
    return write_model_folder(
        model,
        folder,
        formats,
        ema=ema,
        heads=_heads_of(str(source), model),
        facts=known,
        dynamic_size=dynamic_size,
        opset=opset,
        benchmark=measure,
        overwrite=overwrite,
        source=locate(source),
        report=report,
    )


def _load(source: str, arch: str | None, img_size: int | None, download: bool) -> ExportModel:
    from proteus.exporters import ExportModel
    from proteus.models.zoo import load_backbone

    backbone: Any = load_backbone(source, arch=arch, img_size=img_size, download=download)
    about = _description(source)
    facts = _input_facts(source, backbone, arch if about is None else None)
    return ExportModel(
        backbone,
        name=backbone.name,
        img_size=backbone.img_size,
        mean=tuple(backbone.mean),
        std=tuple(backbone.std),
        **facts._asdict(),
        teacher=about.teacher if about is not None else "",
        iterations=about.iterations if about is not None else None,
        licence=backbone.licence,
    )


def _input_facts(source: str, backbone: Any, arch: str | None) -> InputFacts:
    """Return the interpolation and the crop of a model's images."""
    from proteus.exporters.model import input_facts
    from proteus.models.zoo.model_folder import InputFacts, hub_folder, read_input_facts

    path = locate(source)
    folder = hub_folder(source) if source.startswith("hf-hub:") else path
    if path.name == "model.safetensors":
        folder = path.parent
    if (folder / "config.json").is_file():
        return read_input_facts(folder)
    return InputFacts() if path.is_file() and arch is None else input_facts(backbone, arch or source)


def _title(source: str) -> str:
    """Return the title of a model that people know by name; empty for a file, a folder or random weights."""
    from proteus.models.zoo import find_model

    if source.startswith("random:") or locate(source).exists():
        return ""
    try:
        return find_model(source).title
    except UserError:
        return ""


def _description(source: str) -> Description | None:
    path = locate(source)
    path = path / "model.safetensors" if path.is_dir() else path
    return read_description(path) if path.is_file() else None


def _average_of(source: str, model: ExportModel, report: Callable[[str], None]) -> str | None:
    """Return the name of the average of the weights of a source; None if there is none."""
    from proteus.models.heads.head_file import student_digest

    path, part = locate(source), split_part(source)[1]
    if part is not None or _is_average(source) or _delivers_average(source):
        return None
    if path.is_dir():
        average = path / "ema"
        return str(average) if (average / "model.safetensors").is_file() else None
    if path.suffix == ".safetensors":
        average = path.with_name(f"{path.stem}_ema.safetensors")
        if not average.is_file():
            return None
        about = read_description(average)
        if about is None or about.average_of in ("", student_digest(model.state())):  # older files do not say it
            return str(average)
        report(f"ema: left out, since {average} is the average of other weights")
        return None
    if path.is_file() and path.suffix in _PICKLES and "ema" in part_names(open_weights(path), path):
        return f"{source}#ema"
    return None


def _heads_of(source: str, model: ExportModel) -> bytes | None:
    """Read the file of the heads of a source, and check that they are its; None if there is none."""
    from proteus.models.heads.head_file import read_heads, teachers_of
    from proteus.models.zoo.locate import heads_file

    if split_part(source)[1] is not None or not locate(source).exists():
        return None
    path = heads_file(source)
    if not path.is_file():
        return None
    for teacher in teachers_of(path) or [""]:
        read_heads(path, model.state(), teacher)
    return path.read_bytes()


def _is_average(source: str) -> bool:
    return split_part(source)[1] == "ema" or locate(source).stem.endswith("_ema")


def _delivers_average(source: str) -> bool:
    """Whether the file says that it holds an average, as ``student.safetensors`` of ``StudentEMAHook`` does."""
    about = _description(source) if split_part(source)[1] is None else None
    return about is not None and about.weights == "ema"


def _benchmark(
    model: ExportModel, device: str | None, report: Callable[[str], None]
) -> Callable[[Path, Collection[str]], Mapping[str, Any]]:
    import torch

    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")

    def run(folder: Path, written: Collection[str]) -> Mapping[str, Any]:
        from proteus.exporters.benchmark import measure

        found = measure(model, folder, written, chosen)
        report("\n".join([f"benchmark: {found['device']}", *found["table"]]))
        return found

    return run
