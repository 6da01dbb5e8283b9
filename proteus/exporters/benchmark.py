"""Latency and throughput of a model by backend, measured side by side on one device."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proteus.exporters.model import ExportModel
from proteus.exporters.onnx_file import quiet, runner

_WARM_UP, _REPEATS, _FEWEST = 1, 11, 3
_LONGEST = 20.0  # seconds that the repeats of one batch size may take


def measure(
    model: ExportModel, folder: Path, written: Collection[str], device: str = "cpu", batch_size: int | None = None
) -> dict[str, Any]:
    """Measure torch, and the backends of the formats that were just written to a model folder.

    The backends take turns, so that a change in the load of the machine meets all of them; the medians are reported.
    ``torch.compile`` is measured on a GPU only, since it takes minutes on a CPU.

    Args:
        model: The model.
        folder: Its model folder.
        written: Formats that this process wrote there. Other files are not opened: they may be somebody else's, and
            opening a ``model.pt2`` can run code.
        device: ``cpu`` or a CUDA device.
        batch_size: Images in a batch, for the throughput; by default 8 on a CPU and 64 on a GPU.

    Returns:
        ``device``, its name; ``rows``, by backend the latency of one image in ms and the images/s at ``batch_size``;
        and ``table``, lines of Markdown.
    """
    batch_size = batch_size or (8 if torch.device(device).type == "cpu" else 64)
    try:
        backends = _backends(model, folder, written, torch.device(device))
        latency = _medians(backends, model.images(1), device)
        throughput = _medians(backends, model.images(batch_size), device)
    finally:
        model.backbone.to("cpu")  # the card encodes an image on the CPU
    rows = {name: (latency[name] * 1e3, batch_size / throughput[name]) for name in backends}
    table = [f"| backend | 1 image (ms) | images/s at batch {batch_size} |", "|---|---|---|"]
    table += [f"| {name} | {milliseconds:.2f} | {rate:.1f} |" for name, (milliseconds, rate) in rows.items()]
    return {"device": device_name(device), "rows": rows, "table": table}


def device_name(device: str) -> str:
    """Return the name of a device, with the number of threads of a CPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} {'thread' if threads == 1 else 'threads'}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _backends(
    model: ExportModel, folder: Path, written: Collection[str], device: torch.device
) -> dict[str, Callable[[Tensor], Any]]:
    backbone = model.backbone.to(device)
    backends: dict[str, Callable[[Tensor], Any]] = {"torch": lambda images: backbone(images.to(device))}
    if device.type == "cuda":
        compiled = torch.compile(backbone)
        backends["torch.compile"] = lambda images: compiled(images.to(device))
    if "program" in written:
        program = _program(folder / "model.pt2", device)
        backends["torch.export"] = lambda images: program(images.to(device))
    if "onnx" in written:
        cuda = device.type == "cuda" and _has_cuda_provider()
        name = "ONNX Runtime" if cuda or device.type == "cpu" else "ONNX Runtime, on the CPU"
        backends[name] = runner(folder / "model.onnx", torch.get_num_threads(), cuda)
    return backends


def _program(path: Path, device: torch.device) -> Callable[[Tensor], Any]:
    with quiet():
        program = torch.export.load(path)
        if device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        return program.module()


def _has_cuda_provider() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _medians(backends: dict[str, Callable[[Tensor], Any]], images: Tensor, device: str) -> dict[str, float]:
    """Return the median time of each backend in seconds."""
    times: dict[str, list[float]] = {name: [] for name in backends}
    started = time.perf_counter()
    for repeat in range(-_WARM_UP, _REPEATS):
        if repeat >= _FEWEST and time.perf_counter() - started > _LONGEST:
            break
        for name, run in backends.items():
            begin = time.perf_counter()
            with torch.inference_mode():
                run(images)
            if torch.device(device).type == "cuda":
                torch.cuda.synchronize(device)
            if repeat >= 0:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}
