"""What a user asks of a distillation run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Request:
    """Arguments of :func:`proteus.apis.distill.distill` that determine the config; ``auto`` leaves a value open."""

    teacher: str
    student: str
    data: str | Path | Sequence[str | Path]
    epochs: float | None = None
    iters: int | None = None
    hours: float | None = None
    batch_size: int | str = "auto"
    lr: float | str = "auto"
    img_size: int | str = "auto"
    workers: int | str = "auto"
    precision: str = "auto"
    init: str = "auto"
    seed: int = 0
    gpus: int | None = None
    device: str | None = None
    download: bool = False
    overrides: Mapping[str, Any] = field(default_factory=dict)
