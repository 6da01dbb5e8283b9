"""Online evaluation: metrics that compare a student in training with its teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from proteus.datasets import seeded
from proteus.evaluation.classifiers.knn import knn_predict
from proteus.evaluation.float64 import in_float64
from proteus.evaluation.metrics import centered_cosine
from proteus.evaluation.online.explained_variance import UnexplainedVariance
from proteus.evaluation.online.probe_images import ProbeImages, evenly_spaced_indices
from proteus.evaluation.scores import top1
from proteus.models import Distiller
from proteus.models.objectives import StepFeatures
from proteus.structures import Features

# Singular values below this fraction of the features' norm are rounding of float32.
_ROUNDING = 1e-6


@contextmanager
def eval_mode(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Run the block in evaluation mode and without gradients, and restore everything afterwards.

    Each module returns to its mode, and the random states of Python, NumPy and torch (the CPU and the current GPU) are
    restored. Buffers that only training changes (batch norm's) stay as they are.

    Args:
        model: Its modules are switched one by one, since ``eval()`` of another toolbox's model may do more.
        seed: Seed of random numbers in the block.
    """
    modes = [(module, module.training) for module in model.modules()]
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices), seeded(seed), torch.no_grad():
        for module, _ in modes:
            module.training = False
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode


def compare_with_teacher(
    model: Distiller, images: ProbeImages, batch_size: int, patches_per_image: int = 16
) -> dict[str, float]:
    """Compute agreement, effective ranks and unexplained variances, as far as the model has them.

    Args:
        model: Distiller in :func:`eval_mode`.
        images: At least two, with masks if an objective needs them.
        batch_size: Images per batch.
        patches_per_image: Number of evenly spaced patches of each image for agreement and rank.

    Returns:
        ``centered_cosine_cls`` and ``centered_cosine_patch`` (:func:`~proteus.evaluation.metrics.centered_cosine`) of
        the heads' predictions; ``effective_rank_<cls or patch>_<student or teacher>`` of the backbones' features;
        ``unexplained_variance_<objective>`` (:class:`UnexplainedVariance`). Without a teacher, only the student's
        effective ranks.
    """
    has_teacher = model.teacher.embed_dim > 0
    tokens: dict[str, list[Tensor]] = {}
    unexplained = UnexplainedVariance(model.objectives if has_teacher else {})  # type: ignore[arg-type]
    for indices, count in _batches(len(images), batch_size):
        inputs = _preprocess(model, images.images(indices))
        student = model.student(inputs)[:count]
        batch = {"student_cls": student.cls, "student_patch": _sample(student.patches, patches_per_image)}
        if has_teacher:
            teacher = model.teacher(inputs)[:count]
            step = _step_features(model, inputs, images.masks, indices, count, student, teacher)
            # Agreement is that of patches on one grid, effective ranks are those of the backbones.
            batch |= {"teacher_cls": teacher.cls, "teacher_patch": _sample(teacher.patches, patches_per_image)}
            predicted = model.predict_tokens(step.student)
            batch |= {"predicted_cls": predicted["cls"]} if "cls" in predicted else {}
            if "patches" in predicted:
                batch["predicted_patch"] = _sample(predicted["patches"], patches_per_image)
                batch["target_patch"] = _sample(step.teacher.patches, patches_per_image)
            unexplained.update(replace(step, teacher=model.targets(step.teacher)))
        for name, value in batch.items():
            tokens.setdefault(name, []).append(value.float().flatten(0, -2))
    joined = {name: torch.cat(values) for name, values in tokens.items()}
    metrics = {
        f"centered_cosine_{kind}": centered_cosine(joined[f"predicted_{kind}"], joined[target])
        for kind, target in (("cls", "teacher_cls"), ("patch", "target_patch"))
        if f"predicted_{kind}" in joined
    }
    for kind in ("cls", "patch"):
        for who in ("student", "teacher"):
            if f"{who}_{kind}" in joined:
                metrics[f"effective_rank_{kind}_{who}"] = effective_rank(joined[f"{who}_{kind}"])
    return metrics | {f"unexplained_variance_{name}": value for name, value in unexplained.compute().items()}


def missing_metrics(model: Distiller, metrics: Mapping[str, float], knn: bool = True) -> list[str]:
    """List the metrics that are missing, each with the reason and, if there is one, the setting that enables it.

    Args:
        model: The distiller.
        metrics: Metrics by name, each with any folder.
        knn: Whether k-NN is enabled; if not, it is not missing.
    """
    names = {name.rpartition("/")[2] for name in metrics}
    missing = []
    if knn and not any(name.startswith("knn_") for name in names):
        missing.append(
            "k-NN (no labelled images; set default_hooks.online_eval.knn.data_root to a folder with a folder per class)"
        )
    if model.teacher.embed_dim == 0:
        return [
            *missing,
            "agreement, the teacher's effective rank and unexplained variances (the model lacks a teacher)",
        ]
    if "effective_rank_cls_student" in names:
        for kind in ("cls", "patch"):
            if f"centered_cosine_{kind}" not in names:
                missing.append(f"centered_cosine_{kind} (no objective predicts the teacher's {kind} tokens)")
        unsupported = UnexplainedVariance(model.objectives).unsupported  # type: ignore[arg-type]
        missing += [f"unexplained_variance_{name} ({reason})" for name, reason in unsupported.items()]
    return missing


def knn_accuracy(
    model: Distiller, network: Callable[[Tensor], Features], images: ProbeImages, ks: Sequence[int], batch_size: int
) -> dict[str, float]:
    """Compute the k-NN accuracy of labelled images, each classified by the others.

    Args:
        model: Distiller in :func:`eval_mode`, which preprocesses the images.
        network: The model's student or teacher; its cls tokens are compared (:func:`knn_predict`).
        images: With labels.
        ks: Numbers of neighbours.
        batch_size: Images per batch.

    Returns:
        ``knn_<k>`` in per cent; NaN if features are not finite or all zero.
    """
    batches = _batches(len(images), batch_size)
    features = torch.cat([network(_preprocess(model, images.images(at))).cls[:count].float() for at, count in batches])
    if not features.isfinite().all() or not features.any(dim=1).all():
        return {f"knn_{k}": float("nan") for k in ks}
    assert images.labels is not None
    # MPS and others lack float64 and some sorts; for a few thousand images the CPU is fast enough.
    predictions = knn_predict(features.cpu(), images.labels, ks=ks, leave_one_out=True)
    return {f"knn_{k}": top1(predictions[k], images.labels) for k in ks}


def effective_rank(features: Tensor) -> float:
    """Compute the effective rank of features: ``exp`` of the entropy of their normalised singular values.

    ``exp(-sum p_k log p_k)`` with ``p_k = s_k / sum s`` (Roy and Vetterli, "The effective rank", EUSIPCO 2007, sec. 2;
    as a measure of self-supervised features without labels: RankMe, Garrido et al., ICML 2023, eq. 2). Unlike RankMe
    the features are *centred* first: tokens share a large mean, which would be one direction that hides the others, and
    a student that predicts only the mean is the collapse to detect.

    Features that vary equally in ``r`` directions have rank ``r``; the maximum is ``min(N - 1, D)``. Compare the rank
    with another network's on the same images, not with published numbers.

    Args:
        features: ``(N, D)``.

    Returns:
        Between 1 and ``min(N - 1, D)``; 0 if all features are equal, NaN if one is not finite.

    Raises:
        ValueError: They are not ``(N, D)`` with at least two rows.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"effective_rank needs two or more features, (N, D); found {tuple(features.shape)}")
    if not features.isfinite().all():
        return float("nan")
    exact = in_float64(features)
    centred = exact - exact.mean(0)
    # The eigenvalues of the smaller of the two products are the squares, and much cheaper than an SVD.
    product = centred.t() @ centred if centred.shape[1] <= len(centred) else centred @ centred.t()
    values = torch.linalg.eigvalsh(product).clamp(min=0).sqrt()
    values = values[values > _ROUNDING * exact.norm()]
    if len(values) == 0:
        return 0.0
    fractions = values / values.sum()
    return float((-fractions * fractions.log()).sum().exp())


def _batches(total: int, size: int) -> Iterator[tuple[Tensor, int]]:
    """Yield indices, always ``size`` of them, and how many of them are new.

    A batch of another size would make a compiled teacher compile again, and perhaps round differently.
    """
    for start in range(0, total, size):
        yield torch.arange(start, start + size) % total, min(size, total - start)


def _preprocess(model: Distiller, images: Tensor) -> Tensor:
    data: dict[str, Any] = model.data_preprocessor({"inputs": images}, False)
    inputs: Tensor = data["inputs"]
    return inputs


def _step_features(
    model: Distiller,
    inputs: Tensor,
    masks: Tensor | None,
    indices: Tensor,
    count: int,
    student: Features,
    teacher: Features,
) -> StepFeatures:
    if not model.needs_masks or masks is None:
        return model.on_one_grid(StepFeatures(teacher, student), inputs)
    batch_masks = model.masks_of_student(masks[indices].to(inputs.device), inputs)
    masked = model.student(inputs, batch_masks)[:count]
    batch_masks = batch_masks[:count]
    step = StepFeatures(teacher, student, masked, batch_masks.flatten().nonzero().squeeze(1))
    return model.on_one_grid(step, inputs, batch_masks)


def _sample(patches: Tensor, count: int) -> Tensor:
    return patches[:, evenly_spaced_indices(count, patches.shape[1])]
