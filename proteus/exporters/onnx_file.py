"""``model.onnx``, checked by ONNX Runtime.

torch has two exporters. With torch 2.13 on one CPU core, the one that traces (``dynamo=False``) takes 1 s for a
ViT-S/14 at 224 px and needs no further package; the one on ``torch.export`` takes 7 s and needs onnxscript. Features
of both files differ from torch's by less than 5e-6, and both run at the same speed. The first is used.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from proteus.checkpoints.errors import first_sentence
from proteus.exporters.compare import ExportError, largest_difference
from proteus.exporters.model import ExportModel, FormatSkippedError
from proteus.exporters.traceable import other_size, traceable
from proteus.utils.atomic import atomic_path

LATEST_OPSET = 20
"""Largest opset of torch's exporter."""
OLDEST_OPSET = 17
"""Smallest opset with LayerNorm as one node."""
_LARGEST_FILE = 2_000_000_000


def write_onnx(model: ExportModel, path: Path, dynamic_size: bool = False, opset: int | None = None) -> float:
    """Write an ONNX file with input ``images`` and outputs ``cls`` and ``patches``, for any batch size.

    Mean, standard deviation and size of the images are in its metadata.

    Args:
        model: The model.
        path: File to write.
        dynamic_size: Also take images of any size.
        opset: Version of the operators; that of torch's exporter by default.

    Returns:
        Largest absolute difference between the features in ONNX Runtime and in torch, on random images at batch 1 and
        3; with ``dynamic_size`` also at another size.

    Raises:
        FormatSkippedError: onnx or onnxruntime is not installed, or the model does not fit in one file.
        ExportError: The exporter refuses the opset or the model, or the features differ; nothing is written.
        FullDiskError: The disk is full.
    """
    require("onnx", "onnxruntime")
    if opset is not None and not OLDEST_OPSET <= opset <= LATEST_OPSET:
        raise ExportError(f"opset {opset}: torch's exporter takes {OLDEST_OPSET} to {LATEST_OPSET}")
    size = sum(value.numel() * value.element_size() for value in model.state().values())
    if size > _LARGEST_FILE:
        raise FormatSkippedError(f"{size / 1e9:.1f} GB of weights do not fit in one ONNX file, which takes 2 GB")
    module = traceable(model, dynamic_size)
    with atomic_path(path) as temporary:
        _export(model, module, temporary, dynamic_size, opset)
        _add_facts(model, module, temporary, dynamic_size)
        return largest_difference(
            model,
            runner(temporary),
            path.name,
            sizes=[other_size(model)] if dynamic_size else (),
            reference=module,
        )


def require(*packages: str) -> None:
    """Check that packages of the ``export`` extra are installed.

    Raises:
        FormatSkippedError: One is missing; the message has the command to install it.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise FormatSkippedError(f"{' and '.join(missing)} not installed; pip install {' '.join(missing)}")


def runner(path: Path, threads: int = 0, cuda: bool = False) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Open a file in ONNX Runtime.

    Args:
        path: The file.
        threads: CPU threads; 0 for all.
        cuda: Run on the first GPU.

    Returns:
        A function: images ``(B, 3, H, W)`` -> ``(cls, patches)``.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, threads
    providers = [*(["CUDAExecutionProvider"] if cuda else []), "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        cls, patches = session.run(["cls", "patches"], {"images": images.numpy()})
        return torch.from_numpy(cls), torch.from_numpy(patches)

    return run


def _export(model: ExportModel, module: nn.Module, path: Path, dynamic_size: bool, opset: int | None) -> None:
    axes: dict[str, dict[int, str]] = {name: {0: "batch"} for name in ("images", "cls", "patches")}
    if dynamic_size:
        axes["images"] |= {2: "height", 3: "width"}
        axes["patches"] |= {1: "patches"}
    try:
        with quiet(), torch.inference_mode():
            torch.onnx.export(
                module,
                (model.images(2),),
                str(path),
                dynamo=False,
                input_names=["images"],
                output_names=["cls", "patches"],
                dynamic_axes=axes,
                opset_version=opset,
            )
    except OSError:
        raise
    except Exception as error:  # torch raises many types for an operator that it cannot export
        raise ExportError(f"torch cannot export {model.architecture} to ONNX ({first_sentence(error)})") from error


def _add_facts(model: ExportModel, module: nn.Module, path: Path, dynamic_size: bool) -> None:
    """Write the shapes of the outputs, which a trace leaves unnamed, and the facts to prepare images with."""
    import onnx

    with torch.inference_mode():
        shapes = {
            name: list(value.shape) for name, value in zip(("cls", "patches"), module(model.images(1)), strict=True)
        }
    graph = onnx.load(str(path))
    for output in graph.graph.output:
        for axis, (dimension, length) in enumerate(
            zip(output.type.tensor_type.shape.dim, shapes[output.name], strict=True)
        ):
            if axis and not (dynamic_size and output.name == "patches" and axis == 1):
                dimension.dim_value = length
    facts = {"mean": list(model.mean), "std": list(model.std), "img_size": model.img_size}
    for key, value in facts.items():
        graph.metadata_props.add(key=key, value=json.dumps(value))
    path.write_bytes(graph.SerializeToString())


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings of exporters: of traces that take Python numbers, and of deprecated parts of torch."""
    loggers: list[Any] = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch._export")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
