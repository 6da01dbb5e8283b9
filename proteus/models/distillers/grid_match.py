"""The grid on which patches of teacher and student are compared, and the teacher's input size that makes them equal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from proteus.models.backbones.features import both_sides, grid_of_tokens
from proteus.models.distillers.grid import Grid, resample, resample_masks
from proteus.models.objectives import StepFeatures
from proteus.structures import UserError
from proteus.utils.argument_checks import check_choice
from proteus.utils.resampling import MODES, Mode

if TYPE_CHECKING:
    from proteus.models.distillers.distiller import Distiller

MATCHES = ("auto", "teacher_size", "coarser", "finer", "student", "teacher")
"""Names of the grids on which patches can be compared."""

# `auto` resizes the teacher's images by at most this factor. At 98 px instead of 224, which would give a /14 teacher
# the grid of a CNN of stride 32, a teacher sees little of the image.
_LARGEST_RESIZE = 4 / 3


@dataclass(frozen=True)
class GridMatch:
    """How the patches of a teacher and a student are brought to one grid.

    Attributes:
        match: ``teacher_size``: the teacher's images are resized so that its patches lie on the student's grid.
            ``coarser``, ``finer``: the smaller or larger number of patches along each side. ``student``, ``teacher``:
            their grid. ``(h, w)``: that grid. ``auto``: ``teacher_size`` where a size within a factor of 4/3 of the
            images' gives exactly the student's grid, and otherwise ``coarser``.
        mode: See :func:`~proteus.models.distillers.grid.resample`.
        key: Its key in the config, for messages.
        teacher_key: Likewise of the teacher.
    """

    match: str | Grid = "auto"
    mode: Mode = "area"
    key: str = "model.grids"
    teacher_key: str = "model.teacher"

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | None, key: str, teacher_key: str = "model.teacher") -> GridMatch:
        """Build one from ``dict(match=..., mode=...)``.

        Raises:
            ValueError: The config has another key or value; the message names it.
        """
        if not isinstance(config, (Mapping, type(None))):
            raise ValueError(f"{key}={config!r}: write dict(match='coarser', mode='area'), or leave it out")
        config = dict(config or {})
        unknown = [name for name in config if name not in ("match", "mode")]
        if unknown:
            raise ValueError(f"{key}.{unknown[0]}: unknown key; it takes match and mode")
        match, mode = config.get("match", "auto"), config.get("mode", "area")
        if isinstance(match, (list, tuple)):
            if len(match) != 2 or any(type(side) is not int or side < 1 for side in match):
                raise ValueError(f"{key}.match={match!r}: write two whole numbers, rows and columns of patches")
            match = (match[0], match[1])
        elif match not in MATCHES:
            names = ", ".join(map(repr, MATCHES))
            raise ValueError(f"{key}.match={match!r}: choose from: {names}, or a grid such as (7, 7)")
        check_choice(f"{key}.mode", mode, MODES)
        return cls(match, mode, key, teacher_key)

    def check(self, student: Grid, teacher: Grid) -> None:
        """Check that the grids are equal if ``match`` promises it.

        Raises:
            UserError: ``match`` is ``teacher_size``, and the teacher's ``img_size`` gives it another grid.
        """
        if self.match == "teacher_size" and teacher not in (student, (0, 0)):
            raise UserError(
                f"{self.key}.match='teacher_size', and {self.teacher_key} has {_by(teacher)} patches, the student "
                f"{_by(student)}: remove {self.teacher_key}.img_size, or write match='coarser'"
            )

    def common(self, student: Grid, teacher: Grid) -> Grid:
        """The grid on which these two are compared."""
        if isinstance(self.match, tuple):
            return self.match
        if self.match in ("student", "teacher"):
            return student if self.match == "student" else teacher
        rows, columns = zip(student, teacher, strict=True)
        return (max(rows), max(columns)) if self.match == "finer" else (min(rows), min(columns))

    def on_one_grid(
        self, step: StepFeatures, masks: Tensor | None = None, mask_grid: Grid | None = None, shifted: bool = False
    ) -> StepFeatures:
        """Resample the patch tokens of a step to one grid, and carry the masked positions over.

        Args:
            step: Features of teacher and student.
            masks: Masks of ``step.masked``, ``(M, n)``.
            mask_grid: Their grid; by default the student's.
            shifted: Whether the views are shifted against each other by whole patches of the student: the grid is then
                the student's, and ``step.mask_indices`` stay.

        Returns:
            ``step`` itself if all is on one grid already, or there is no teacher.
        """
        student, teacher = step.student.grid, step.teacher.grid
        self.check(student, teacher)
        common = student if shifted else self.common(student, teacher)
        mask_grid = mask_grid or student
        if (student == teacher == common == mask_grid) or teacher == (0, 0):
            return step
        moved = partial(resample, grid=common, mode=self.mode)
        indices = step.mask_indices
        if masks is not None and mask_grid != common and not shifted:
            indices = masked_indices(resample_masks(masks, mask_grid, common))
        return replace(
            step,
            teacher=moved(step.teacher),
            student=moved(step.student),
            masked=None if step.masked is None else moved(step.masked),
            mask_indices=indices,
            teacher_hidden=tuple(moved(each) for each in step.teacher_hidden),
            student_hidden=tuple(moved(each) for each in step.student_hidden),
        )

    def teacher_size(self, student: Any, teacher: Any, size: tuple[int, int]) -> tuple[int, int] | None:
        """Height and width for the teacher's images at which it has the student's grid; None to keep their own.

        Where that is not asked for or impossible, the nearest size that divides into the teacher's patches.

        Args:
            student: The student.
            teacher: Its teacher.
            size: Height and width of the images in pixels.

        Raises:
            UserError: ``match`` is ``teacher_size``, and there is no such size.
        """
        whole = _whole_patches(teacher.backbone, size)
        own = None if whole == size else whole
        if self.match not in ("auto", "teacher_size"):
            return own
        grid = student.grid_for(size)
        if grid_at(teacher.backbone, whole) == grid:
            return own
        found = _size_for(teacher.backbone, size, grid)
        if self.match == "teacher_size":
            if found is None:
                raise UserError(
                    f"{self.key}.match='teacher_size': found no size of {self.teacher_key} that gives the "
                    f"student's {_by(grid)} patches of images of {_by(size)} px; write match='coarser', which resamples"
                )
            return found
        far = found is None or any(
            max(new / old, old / new) > _LARGEST_RESIZE for new, old in zip(found, size, strict=True)
        )
        return own if far else found

    def describe(self, student: Any, teacher: Any, size: tuple[int, int], shifted: bool = False) -> str | None:
        """Say in one line how two grids that differ are matched, for images of ``size``; None if they are equal."""
        own, theirs, entering = student.grid_for(size), teacher.grid_for(size), teacher.input_size(size)
        common = own if shifted else self.common(own, theirs)
        resized = f"teacher's images resized to {_by(entering)} px"
        if not own == theirs == common:
            name = f"match={self.match!r}, mode={self.mode!r}"
            patches = f"student {_by(own)}, teacher {_by(theirs)}, compared on {_by(common)} patches ({name})"
            return patches if entering == size else f"{patches}, {resized}"
        if entering == size or teacher.img_size is not None:
            return None
        return f"{resized}, where it has the student's {_by(own)} patches (match={self.match!r})"


def masked_indices(masks: Tensor) -> Tensor:
    """Return ``(K,)``, the positions at which ``masks.flatten()`` is True; half of them on the meta device.

    On a GPU this waits for the device.
    """
    if masks.is_meta:
        return torch.empty(masks.numel() // 2, dtype=torch.long, device=masks.device)
    return masks.flatten().nonzero().squeeze(1)


def grid_of_masks(masks: Tensor, student: Grid, images: Tensor) -> Grid:
    """Return the grid of masks ``(M, n)``: the student's if they have its number of patches."""
    return student if masks.shape[1] == math.prod(student) else grid_of_tokens(masks.shape[1], images)


class TeacherSizeRule:
    """Height and width in which images enter a teacher that several students may share, by their own.

    Args:
        distillers: The students' distillers.
    """

    def __init__(self, distillers: Mapping[str, Distiller]) -> None:
        self._distillers = [each for each in distillers.values() if each.compares_patches]
        self._known: dict[tuple[int, int], tuple[int, int] | None] = {}

    def __call__(self, size: tuple[int, int]) -> tuple[int, int] | None:
        """Return the size on which all students agree, that of the students that ask for one, or the images' own.

        Their own is rounded to whole patches of the teacher. None is the images' own as well.

        Raises:
            UserError: Students ask for sizes that differ, or that do not exist.
        """
        if size not in self._known:
            self._known[size] = self._choose(size)
        return self._known[size]

    def _choose(self, size: tuple[int, int]) -> tuple[int, int] | None:
        sizes = {each.key: each.grids.teacher_size(each.student, each.teacher, size) for each in self._distillers}
        asked = {each.key: sizes[each.key] or size for each in self._distillers if each.grids.match == "teacher_size"}
        if len(set(asked.values())) > 1:
            listed = ", ".join(f"{key}: {_by(wanted)} px" for key, wanted in asked.items())
            raise UserError(
                f"grids.match='teacher_size' asks for different sizes of one teacher ({listed}): write "
                "match='coarser' for all but one"
            )
        if asked:
            return next(iter(asked.values()))
        if len(set(sizes.values())) == 1:
            return next(iter(sizes.values()))
        return _whole_patches(self._distillers[0].teacher.backbone, size)


def _whole_patches(backbone: Any, size: tuple[int, int]) -> tuple[int, int]:
    """Return the nearest size that a backbone divides into patches."""
    patch = getattr(backbone, "patch_size", None)
    if not getattr(backbone, "needs_whole_patches", False) or not isinstance(patch, int):
        return size
    height, width = (max(round(side / patch), 1) * patch for side in size)
    return height, width


def _size_for(backbone: Any, size: tuple[int, int], grid: Grid) -> tuple[int, int] | None:
    """Return the size at which a backbone has a grid, if a whole number of pixels per patch gives it."""
    patch = _stride(backbone, size)
    if patch is None:
        return None
    found = (grid[0] * patch[0], grid[1] * patch[1])
    return found if grid_at(backbone, found) == grid else None


def _stride(backbone: Any, size: tuple[int, int]) -> tuple[int, int] | None:
    patch = getattr(backbone, "patch_size", None)
    if isinstance(patch, int):
        return (patch, patch)
    own = getattr(backbone, "img_size", None)
    for known in (size, both_sides(own) if own else size):
        grid = grid_at(backbone, known)
        if grid is not None and known[0] % grid[0] == known[1] % grid[1] == 0:
            return known[0] // grid[0], known[1] // grid[1]
    return None


def grid_at(backbone: Any, size: tuple[int, int]) -> Grid | None:
    """Return the grid of a backbone for images of a size; None if it does not take them."""
    try:
        grid: Grid = backbone.grid_for(size)
    except (AssertionError, RuntimeError, ValueError):  # timm's models of fixed size
        return None
    return grid


def _by(sides: tuple[int, int]) -> str:
    return f"{sides[0]}x{sides[1]}"
