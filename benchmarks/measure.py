"""Shared parts of the benchmarks: alternating pairs, medians, the machine's description and its matmul peak."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

import proteus  # noqa: F401  (before timm: works around a torchvision built for another torch)

ROOT = Path(__file__).resolve().parents[1]
Clock = Callable[[Callable[[], object]], float]


@dataclass
class Pairs:
    """Seconds of two things measured in turn; the i-th of each were measured one after the other.

    Attributes:
        ours: Seconds of the first, one a pair.
        baseline: Seconds of the second, likewise.
    """

    ours: list[float] = field(default_factory=list)
    baseline: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Ours over the baseline, pair by pair: what slows a machine for a while slows both halves of a pair."""
        return [ours / baseline for ours, baseline in zip(self.ours, self.baseline, strict=True)]

    @property
    def ratio(self) -> float:
        """Median of the pairs' ratios of time; below 1 ours is the faster."""
        return median(self.ratios)

    @property
    def speedup(self) -> float:
        """Median of the pairs' ratios of rate; above 1 ours is the faster."""
        return median(1 / ratio for ratio in self.ratios)

    def record(self, work: float = 1.0) -> dict[str, Any]:
        """Return all figures for :func:`write_json`; ``work`` is the number of images that one run takes."""
        return {
            "ours": {"seconds": self.ours, "median": median(self.ours), "per_second": work / median(self.ours)},
            "baseline": {
                "seconds": self.baseline,
                "median": median(self.baseline),
                "per_second": work / median(self.baseline),
            },
            "ratios": self.ratios,
            "ratio": self.ratio,
            "speedup": self.speedup,
        }


def wall_clock(run: Callable[[], object]) -> float:
    """Seconds of ``run()`` on the host's clock."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def device_clock(run: Callable[[], object]) -> float:
    """Seconds of ``run()`` between two CUDA events, with the device idle before and waited for after."""
    torch.cuda.synchronize()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3


def clock_of(device: torch.device | str) -> Clock:
    """The clock that is right for a device."""
    return device_clock if torch.device(device).type == "cuda" else wall_clock


def pairs(
    ours: Callable[[], object],
    baseline: Callable[[], object],
    count: int,
    clock: Clock = wall_clock,
    warmup: int = 1,
) -> Pairs:
    """Measure two things in alternating order: A B, B A, A B, ...

    Args:
        ours: Does its work once.
        baseline: Does the same work once in the other way.
        count: Number of pairs.
        clock: Measures the seconds of one call.
        warmup: Calls of each that are not measured.
    """
    for _ in range(warmup):
        ours()
        baseline()
    measured = Pairs()
    for index in range(count):
        if index % 2:
            second = clock(baseline)
            first = clock(ours)
        else:
            first = clock(ours)
            second = clock(baseline)
        measured.ours.append(first)
        measured.baseline.append(second)
    return measured


def spread(seconds: Sequence[float], scale: float = 1.0, unit: str = "s") -> str:
    """``median [lowest-highest] unit``."""
    values = [scale * value for value in seconds]
    return f"{median(values):.4g} [{min(values):.4g}-{max(values):.4g}] {unit}"


def matmul_peak(device: torch.device | str, dtype: torch.dtype, size: int | None = None, repeats: int = 5) -> float:
    """FLOP/s of a square matrix product, two a multiply-add: the best of several, for a share of what can be had.

    Args:
        device: Where.
        dtype: Of both factors.
        size: Side of the matrices; 8192 on a GPU, 2048 on a CPU by default.
        repeats: Measurements, of which the fastest counts.
    """
    device = torch.device(device)
    size = size or (8192 if device.type == "cuda" else 2048)
    products = 10 if device.type == "cuda" else 2
    left, right, out = (torch.randn(size, size, device=device).to(dtype) for _ in range(3))

    def multiply() -> None:
        for _ in range(products):
            torch.matmul(left, right, out=out)

    multiply()
    clock = clock_of(device)
    return 2 * size**3 * products / min(clock(multiply) for _ in range(repeats))


def machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """What the figures depend on: processor, accelerator, threads and versions."""
    device = torch.device(device)
    described: dict[str, Any] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }
    if device.type == "cuda":
        described["accelerator"] = torch.cuda.get_device_name(device)
        described["cuda"] = torch.version.cuda
    return described


def commit() -> str:
    """The commit that is checked out, with ``+`` where files differ from it; ``unknown`` outside a repository."""
    try:
        short = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{short}+" if changed else short


def write_json(path: str | Path | None, device: torch.device | str = "cpu", **figures: Any) -> None:
    """Write figures with the command, the machine and the commit that they belong to; ``None`` writes nothing."""
    if path is None:
        return
    program = Path(sys.argv[0]).name
    record = {
        "command": f"python benchmarks/{program} {' '.join(sys.argv[1:])}".strip(),
        "machine": machine(device),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        **figures,
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(record, indent=2) + "\n")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
