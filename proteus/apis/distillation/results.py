"""The end of a distillation run: metrics on held-out images, model folder, summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from proteus.apis.distillation.folder import CARD, CONFIG, FACTS, RUN, STUDENT
from proteus.apis.held_out import compare_retrieval, load_photographs
from proteus.config.load import load_config
from proteus.evaluation.online.jsonl_log import read_jsonl
from proteus.utils import read_json, write_json

_RESULTS = f"{RUN}/held_out.json"
_COSINES = {"patch tokens": "centered_cosine_patch", "class token": "centered_cosine_cls"}


@dataclass(frozen=True)
class DistillResult:
    """What a distillation wrote.

    Attributes:
        out: The model folder.
        student: The student's weights in it.
        metrics: Metrics on held-out images: ``centered_cosine_cls``, ``centered_cosine_patch`` and ``patch_retrieval``,
            the first two also before training (``start_...``), the last also of the teacher (``teacher_...``).
    """

    out: Path
    student: Path
    metrics: dict[str, float]


def finish(out: Path, seconds: float | None = None) -> DistillResult:
    """Measure the student of a finished run, write the model folder and print a summary.

    Args:
        out: Folder of the run, as :func:`prepare` wrote it.
        seconds: Time that the training took; None if it is unknown, as after a resumed run.
    """
    from proteus.apis.export import export

    cfg = load_config(out / CONFIG)
    metrics = measure_student(cfg, out)
    if not (out / CARD).is_file():  # which is written last
        export(out / STUDENT, out, facts=_facts(out, metrics, seconds))
    print(summary(out, metrics))
    return DistillResult(out, out / "model.safetensors", metrics)


def _facts(out: Path, metrics: Mapping[str, float], seconds: float | None) -> Any:
    """Return what the model card says."""
    try:
        facts = dict(read_json(out / FACTS))
    except FileNotFoundError:  # interrupted between the config and this file
        facts = {}
    facts["metrics"] = _card_metrics(metrics)
    if seconds is not None:
        facts["training"] = {**facts.get("training", {}), "training time": _duration(seconds)}
    return facts


def _card_metrics(metrics: Mapping[str, float]) -> dict[str, str]:
    rows = {
        f"{title}, centred cosine to the teacher's, held-out images": f"{metrics[name]:.3f} (before training "
        f"{metrics[f'start_{name}']:.3f}; 1 is equal)"
        for title, name in _COSINES.items()
        if name in metrics and f"start_{name}" in metrics
    }
    if "patch_retrieval" in metrics:
        chance, teacher = metrics["chance_patch_retrieval"], metrics["teacher_patch_retrieval"]
        rows["patch retrieval, held-out images"] = (
            f"{metrics['patch_retrieval']:.3f} (teacher {teacher:.3f}, chance {chance:.3f})"
        )
    return rows


def measure_student(cfg: Config, out: Path) -> dict[str, float]:
    """Return the metrics of the trained student on held-out images; they are kept in the run's folder."""
    kept = out / _RESULTS
    if kept.is_file():
        return dict(read_json(kept))
    lines = read_jsonl(out / RUN / "online_eval.jsonl")
    metrics: dict[str, float] = {}
    for prefix, line in (("start_", lines[0]), ("", lines[-1])) if lines else ():
        metrics |= {prefix + name: value for name, value in line.items() if name.startswith("centered_cosine")}
    photographs = load_photographs(cfg)
    if len(photographs) > 1:
        metrics |= compare_retrieval(cfg, out / STUDENT, photographs)
    write_json(kept, metrics, indent=2)
    return metrics


def summary(out: Path, metrics: Mapping[str, float]) -> str:
    """Return the closing lines: the metrics, where the model is, how to load it."""
    table = [
        f"{f'{title}, centred cosine':<36}{metrics[f'start_{name}']:>8.3f}{metrics[name]:>9.3f}{1:>9.3f}"
        for title, name in _COSINES.items()
        if name in metrics and f"start_{name}" in metrics
    ]
    if "patch_retrieval" in metrics:
        title = f"patch retrieval (chance {metrics['chance_patch_retrieval']:.3f})"
        table.append(f"{title:<36}{'':>8}{metrics['patch_retrieval']:>9.3f}{metrics['teacher_patch_retrieval']:>9.3f}")
    header = f"{'on held-out images':<36}{'start':>8}{'student':>9}{'teacher':>9}"
    return "\n".join(
        [
            "",
            *([header, *table, ""] if table else []),
            f"model folder: {out}  (README.md says how to load it in other tools)",
            "  import proteus",
            f"  backbone = proteus.load_backbone({str(out)!r})",
        ]
    )


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"
