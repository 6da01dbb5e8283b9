"""Does a distillation work? Figures of a student in training beside its teacher, without training anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from proteus.evaluation.classifiers.knn import knn_predict
from proteus.evaluation.metrics import centered_cosine
from proteus.evaluation.online.effective_rank import effective_rank
from proteus.evaluation.online.explained_variance import UnexplainedVariance
from proteus.evaluation.online.probe_images import ProbeImages, spread
from proteus.evaluation.scores import top1
from proteus.models import Distiller
from proteus.models.objectives import StepFeatures
from proteus.structures import Features


def compare_with_teacher(
    model: Distiller, images: ProbeImages, batch_size: int, patches_per_image: int = 16
) -> dict[str, float]:
    """Agreement, effective ranks and relative losses, as far as the model has them.

    Args:
        model: In evaluation mode; no gradient is wanted.
        images: At least two, with masks if an objective needs them.
        batch_size: Images at once.
        patches_per_image: How many patches of each image count for agreement and rank, at even distances.

    Returns:
        ``centered_cosine_cls`` and ``centered_cosine_patch`` (:func:`~proteus.evaluation.metrics.centered_cosine`) of
        the heads' predictions; ``effective_rank_<cls or patch>_<student or teacher>`` of the backbones' features;
        ``unexplained_variance_<objective>`` (:class:`UnexplainedVariance`). Without a teacher, only the student's
        effective ranks.
    """
    taught = model.teacher.embed_dim > 0
    tokens: dict[str, list[Tensor]] = {}
    losses = UnexplainedVariance(model.objectives if taught else {})  # type: ignore[arg-type]
    for positions, count in _batches(len(images), batch_size):
        pixels = _on_device(model, images.images(positions))
        student = model.student(pixels)[:count]
        found = {"student_cls": student.cls, "student_patch": _some(student.patches, patches_per_image)}
        if taught:
            teacher = model.teacher(pixels)[:count]
            model.match_grids(pixels.shape[-1], student.grid, teacher.grid)
            found |= {"teacher_cls": teacher.cls, "teacher_patch": _some(teacher.patches, patches_per_image)}
            predicted = model.predict_tokens(student)
            found |= {"predicted_cls": predicted["cls"]} if "cls" in predicted else {}
            if "patches" in predicted:
                found["predicted_patch"] = _some(predicted["patches"], patches_per_image)
            losses.update(_views(model, pixels, images.masks, positions, count, student, teacher))
        for name, value in found.items():
            tokens.setdefault(name, []).append(value.float().flatten(0, -2))
    joined = {name: torch.cat(values) for name, values in tokens.items()}
    figures = {
        f"centered_cosine_{kind}": centered_cosine(joined[f"predicted_{kind}"], joined[f"teacher_{kind}"])
        for kind in ("cls", "patch")
        if f"predicted_{kind}" in joined
    }
    for kind in ("cls", "patch"):
        for who in ("student", "teacher"):
            if f"{who}_{kind}" in joined:
                figures[f"effective_rank_{kind}_{who}"] = effective_rank(joined[f"{who}_{kind}"])
    return figures | {f"unexplained_variance_{name}": value for name, value in losses.compute().items()}


def left_out(model: Distiller, figures: Mapping[str, float]) -> list[str]:
    """Which figures are missing, and why or what to set, a sentence each."""
    has = {name.rpartition("/")[2] for name in figures}
    reasons = []
    if not any(name.startswith("knn_") for name in has):
        reasons.append(
            "k-NN (no labelled images; set default_hooks.online_eval.knn.data_root to a folder with a folder per class)"
        )
    if model.teacher.embed_dim == 0:
        return [*reasons, "agreement, the teacher's effective rank and relative losses: there is no teacher"]
    if "effective_rank_cls_student" in has:
        for kind in ("cls", "patch"):
            if f"centered_cosine_{kind}" not in has:
                reasons.append(f"centered_cosine_{kind}: no objective predicts the teacher's {kind} tokens")
        refused = UnexplainedVariance(model.objectives).left_out  # type: ignore[arg-type]
        reasons += [f"the relative loss of {name}: {reason}" for name, reason in refused.items()]
    return reasons


def nearest_neighbour_accuracy(
    model: Distiller, network: Callable[[Tensor], Features], images: ProbeImages, ks: Sequence[int], batch_size: int
) -> dict[str, float]:
    """Share of labelled images that the others recognise: k-NN, leaving each image out in turn.

    Args:
        model: Prepares the images; in evaluation mode.
        network: The model's student or teacher, of which the cls tokens are compared (:func:`knn_predict`).
        images: With labels.
        ks: Numbers of neighbours.
        batch_size: Images at once.

    Returns:
        ``knn_<k>`` in per cent; NaN where features are not finite or zero.
    """
    batches = _batches(len(images), batch_size)
    features = torch.cat([network(_on_device(model, images.images(at))).cls[:count].float() for at, count in batches])
    if not features.isfinite().all() or not features.any(dim=1).all():
        return {f"knn_{k}": float("nan") for k in ks}
    assert images.labels is not None
    # MPS and others lack float64 and some sorts: a few thousand images take the CPU no time.
    predictions = knn_predict(features.cpu(), images.labels, ks=ks, leave_one_out=True)
    return {f"knn_{k}": top1(predictions[k], images.labels) for k in ks}


def _batches(total: int, size: int) -> Iterator[tuple[Tensor, int]]:
    """Positions, always ``size`` of them, and how many of them are new.

    A batch of another size would have a compiled teacher compiled again, and from then on perhaps round otherwise.
    """
    for start in range(0, total, size):
        yield torch.arange(start, start + size) % total, min(size, total - start)


def _on_device(model: Distiller, images: Tensor) -> Tensor:
    data: dict[str, Any] = model.data_preprocessor({"inputs": images}, False)
    pixels: Tensor = data["inputs"]
    return pixels


def _views(
    model: Distiller,
    pixels: Tensor,
    masks: Tensor | None,
    positions: Tensor,
    count: int,
    student: Features,
    teacher: Features,
) -> StepFeatures:
    if not model.needs_masks or masks is None:
        return StepFeatures(teacher, student)
    chosen = masks[positions].to(pixels.device)
    masked = model.student(pixels, chosen)[:count]
    return StepFeatures(teacher, student, masked, chosen[:count].flatten().nonzero().squeeze(1))


def _some(patches: Tensor, count: int) -> Tensor:
    return patches[:, spread(count, patches.shape[1])]
