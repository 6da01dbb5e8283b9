"""Views of teacher and student that are shifted against each other by whole patches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from proteus.models.distillers.data_preprocessor import DistillDataPreprocessor
from proteus.models.objectives import StepFeatures
from proteus.registry import MODELS
from proteus.structures import DataError, Features
from proteus.utils.argument_checks import check_side, check_whole


@dataclass(frozen=True)
class Shift:
    """Positions of two views in the same larger images.

    Attributes:
        student: Row and column of the first patch of the student's views.
        teacher: Likewise of the teacher's.
    """

    student: tuple[int, int]
    teacher: tuple[int, int]

    def __getitem__(self, images: slice) -> Shift:
        """Of some images of the batch: the same, as all have one shift."""
        return self

    def restrict(self, step: StepFeatures) -> StepFeatures:
        """Return the features of a step without the patches that one view shows alone."""
        return replace(
            step,
            teacher=self.common(step.teacher, self.teacher),
            student=self.common(step.student, self.student),
            masked=None if step.masked is None else self.common(step.masked, self.student),
            teacher_hidden=tuple(self.common(each, self.teacher) for each in step.teacher_hidden),
            student_hidden=tuple(self.common(each, self.student) for each in step.student_hidden),
        )

    def common(self, features: Features, own: tuple[int, int]) -> Features:
        """Return the features of the patches that both views show.

        Args:
            features: Of one of the views.
            own: Position of that view.
        """
        grid = features.patches.unflatten(1, features.grid)
        rows, columns = self._common(own, features.grid)
        patches = grid[:, rows, columns]
        height, width = patches.shape[1:3]
        return Features(features.cls, patches.flatten(1, 2), (height, width))

    def common_masks(self, masks: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return which of the common patches are masked, ``(M, n)``, from masks ``(M, H, W)`` of the larger images.

        Args:
            masks: The masks.
            grid: ``(h, w)`` of a view.
        """
        rows, columns = self._common((0, 0), grid)
        return masks[:, rows, columns].flatten(1)

    def _common(self, origin: tuple[int, int], grid: tuple[int, int]) -> tuple[slice, slice]:
        rows, columns = (
            slice(max(student, teacher) - start, min(student, teacher) + side - start)
            for student, teacher, start, side in zip(self.student, self.teacher, origin, grid, strict=True)
        )
        return rows, columns


@MODELS.register_module()
class ShiftDataPreprocessor(DistillDataPreprocessor):
    """In training, cut the student's and the teacher's view out of larger images, shifted by whole patches.

    The student then cannot learn patterns of the teacher's features that stay at their position in the image whatever
    it shows. Objectives on patches compare those that both views show; those on the cls token compare the two views'.
    Source: shift-equivariant loss of C-RADIOv4, https://arxiv.org/abs/2601.17237.

    The crops of the training pipeline need ``shift * patch_size`` more pixels than the student's ``img_size``, and
    masks are drawn for the whole crop. The batch of each process has one shift, drawn with torch's generator on the
    CPU, which the runner seeds before each step.

    Args:
        shift: Largest shift along each side, in patches.
        patch_size: Side of a patch of the student in pixels. If the teacher's patches have another size, both are
            compared on the student's grid.
        **statistics: As for :class:`DistillDataPreprocessor`.
    """

    def __init__(self, shift: int = 2, patch_size: int = 14, **statistics: Any) -> None:
        super().__init__(**statistics)
        self.shift = check_whole("shift", shift)
        self.patch_size = check_side("patch_size", patch_size)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise ``inputs``; in training replace them by the student's views, and add the teacher's.

        Raises:
            DataError: The images are too small or have other patches.
            ValueError: The batch has the teacher's cached tokens, which are those of unshifted images.
        """
        if not training:
            return super().forward(data, training)
        self.check_batch(data)
        if data.get("teacher_cls") is not None:
            raise ValueError(
                "ShiftDataPreprocessor shifts the teacher's view, but the batch has its cached tokens: use "
                "DistillDataPreprocessor, or set train_dataloader.dataset.cache=None"
            )
        large = self._grid(data["inputs"])
        grid = (large[0] - self.shift, large[1] - self.shift)
        drawn = torch.randint(self.shift + 1, (4,)).tolist()
        shift = Shift((drawn[0], drawn[1]), (drawn[2], drawn[3]))
        if data.get("masks") is not None:  # on the host, where counting masked patches waits for nothing
            data = {**data, **self._masks(data, shift, large, grid)}
        data = super().forward(data, training)
        views = {"inputs": self._view(data["inputs"], shift.student, grid)}
        views["teacher_inputs"] = self._view(data["inputs"], shift.teacher, grid)
        return {**data, **views, "shift": shift}

    def _grid(self, images: Tensor) -> tuple[int, int]:
        height, width = images.shape[-2:]
        size = self.patch_size
        if height % size or width % size or min(height, width) // size <= self.shift:
            raise DataError(
                f"ShiftDataPreprocessor(shift={self.shift}, patch_size={size}): images of {height}x{width} px; crop "
                f"them to the student's img_size plus {self.shift * size}"
            )
        return height // size, width // size

    def _masks(
        self, data: dict[str, Any], shift: Shift, large: tuple[int, int], grid: tuple[int, int]
    ) -> dict[str, Any]:
        masks: Tensor = data["masks"].unflatten(1, large)
        top, left = shift.student
        common = shift.common_masks(masks, grid)
        given = data["mask_indices"]
        parts = len(given) if isinstance(given, list) else 1  # micro-batches
        indices = [common[part::parts].flatten().nonzero().squeeze(1) for part in range(parts)]
        if masks.is_pinned():
            indices = [each.pin_memory() for each in indices]
        return {
            "masks": masks[:, top : top + grid[0], left : left + grid[1]].flatten(1),
            "mask_indices": indices if isinstance(given, list) else indices[0],
        }

    def _view(self, images: Tensor, position: tuple[int, int], grid: tuple[int, int]) -> Tensor:
        top, left, height, width = (self.patch_size * value for value in (*position, *grid))
        return images[..., top : top + height, left : left + width].contiguous()
