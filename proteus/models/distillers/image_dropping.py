"""Teachers left out image by image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from proteus.models.distillers.student_pass import StudentOutput
from proteus.models.objectives import StepFeatures, TokenRelationObjective
from proteus.models.teachers import TeacherOutput
from proteus.utils.argument_checks import check_number
from proteus.utils.precision import no_autocast

if TYPE_CHECKING:
    from proteus.models.distillers.distiller import Distiller


class ImageDropping:
    """Leave teachers out image by image: that with the largest loss of an image is kept, others are left out at random.

    The loss that is minimised is the number of teachers times the mean over all kept pairs of image and teacher. With
    probability 0 that is the sum of the teachers' losses.

    Source: UNIC (Sariyildiz et al., ECCV 2024, arXiv 2408.05088), with probability 0.5; its released code takes the
    mean without the number of teachers.

    Args:
        probability: Probability that a teacher is left out of an image, if its loss is not the largest.
    """

    def __init__(self, probability: float) -> None:
        self.probability = check_number("model.image_drop", probability, 0, 1)

    def check(self, pairs: Mapping[str, Distiller]) -> None:
        """Check that the objectives can be computed on some images of a batch.

        Raises:
            ValueError: They cannot, or have statistics that would be those of the kept images; the message has the key.
        """
        for each in pairs.values():
            reason = _unsupported(each)
            if reason:
                raise ValueError(f"model.image_drop={self.probability:g}: {reason}, or write image_drop=0")

    def draw(self, losses: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Choose the images of each teacher. On a GPU this waits for the losses.

        Args:
            losses: For each teacher, by name, the loss of each image, ``(B,)``.

        Returns:
            For each teacher the positions of its images, in order, on the device of the losses, and the factor of the
            mean loss over them. One without images has the first, with factor 0.
        """
        stacked = torch.stack(list(losses.values())).detach().cpu()
        kept = torch.rand(stacked.shape) >= self.probability
        kept.scatter_(0, stacked.argmax(0, keepdim=True), True)
        counts = kept.sum(1).tolist()
        positions, factors = {}, {}
        for number, (name, values) in enumerate(losses.items()):
            chosen = kept[number].nonzero().squeeze(1) if counts[number] else torch.zeros(1, dtype=torch.long)
            positions[name] = chosen.to(values.device)
            factors[name] = len(losses) * counts[number] / sum(counts)
        return positions, factors


@torch.no_grad()
def image_losses(distiller: Distiller, teacher: TeacherOutput, student: StudentOutput, images: Tensor) -> Tensor:
    """The loss of each image, ``(B,)``: for each clean head, of the cls token or of patches, its mean times the weight.

    Unlike in the term of ``FeatureObjective``, the cls token counts as much as all patches.
    """
    step = StepFeatures(distiller.targets(teacher.features), student.clean)
    aligned = distiller.on_one_grid(step, images)
    total = torch.zeros(len(images), device=images.device)
    # Autocast would keep copies of the heads' weights, made without gradient, for the pass with gradient.
    with in_evaluation_mode(distiller.objectives), no_autocast(images.device):
        for objective in _comparing(distiller):
            for kind, head in objective.heads_by_token.items():
                predicted = head(getattr(aligned.student, kind).float())
                of_image = torch.vmap(objective.loss_of(kind))
                total += objective.weight * of_image(predicted, getattr(aligned.teacher, kind))
    return total


def of_images(
    positions: Tensor, teacher: TeacherOutput, student: StudentOutput, masks: Tensor | None, labels: Tensor | None
) -> tuple[TeacherOutput, StudentOutput, Tensor | None, Tensor | None]:
    """Select images of a batch: outputs of teacher and student, masks of those with one, and labels."""
    masked = positions[positions < (0 if masks is None else len(masks))]
    clean = student._replace(masked=None)
    return (
        _select(teacher, positions),
        _select(clean, positions)._replace(masked=_select(student.masked, masked)),
        None if masks is None else masks[masked],
        None if labels is None else labels[positions],
    )


def _select(tree: Any, positions: Tensor) -> Any:
    return _pytree.tree_map(lambda tensor: tensor if tensor is None else tensor[positions], tree)


def _comparing(distiller: Distiller) -> list[Any]:
    """The objectives that the losses of images are those of."""
    return [each for each in distiller.objectives_by_name.values() if not each.needs_masks and each.heads_by_token]


def _unsupported(distiller: Distiller) -> str:
    if hasattr(distiller.data_preprocessor, "shift"):
        return f"{type(distiller.data_preprocessor).__name__} shifts the views of images; use DistillDataPreprocessor"
    if distiller.standardization is not None and distiller.standardization.running:
        return (
            f"{distiller.key}.standardization has images=0, and its statistics would be those of the kept images; "
            "write images=1024"
        )
    for name, objective in distiller.objectives_by_name.items():
        key = f"{distiller.key}.objectives.{name}"
        if isinstance(objective, TokenRelationObjective):
            return f"{key} compares images with each other; remove it"
        if any(hasattr(objective.loss_of(kind), "restore") for kind in objective.heads_by_token):
            return f"the statistics of {key}.loss would be those of the kept images; write standardization in its place"
    if not _comparing(distiller):
        return f"{distiller.key}.objectives map no tokens of clean images, from which the losses of images are computed"
    return ""


@contextmanager
def in_evaluation_mode(module: nn.Module | None) -> Iterator[None]:
    """Run the block with a module, if there is one, in evaluation mode, so that it takes in no statistics."""
    modes = [] if module is None else [(part, part.training) for part in module.modules()]
    for part, _ in modes:
        part.training = False
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
