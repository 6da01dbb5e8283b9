"""Check that the models of a run take images of all sizes of its schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from proteus.models.distillers.grid_match import grid_at
from proteus.structures import UserError

_KEY = "train_dataloader.batch_sampler"


def check_scheduled_sizes(model: Any, sizes: Iterable[tuple[int, int]], mask_patches: Iterable[int] = ()) -> None:
    """Check the sizes in which images of a schedule enter each teacher, and that masks fit a student at each size.

    Args:
        model: A model with ``distillers``.
        sizes: Height and width of the images in pixels.
        mask_patches: Sides of the patches that the pipelines mask, in pixels.

    Raises:
        UserError: A teacher does not take a size, or no student has the patches that are masked; the message has the
            keys, and what to write.
    """
    sizes = list(sizes)
    for distiller in model.distillers.values():
        for size in sizes:
            _check_teacher(distiller, size)
    check_masks(model, sizes, mask_patches)


def check_masks(model: Any, sizes: Sequence[tuple[int, int]], mask_patches: Iterable[int]) -> None:
    """Check that a student has the patches that are masked; for other students the masks are resampled.

    Args:
        model: As for :func:`check_scheduled_sizes`.
        sizes: Likewise.
        mask_patches: Likewise.

    Raises:
        UserError: No student has them at one of the sizes.
    """
    masked = [each for each in model.distillers.values() if each.needs_masks]
    for patch in mask_patches if masked else ():
        for size in sizes:
            grids = [each.student.grid_for(size) for each in masked]
            drawn = (size[0] // patch, size[1] // patch)
            if drawn not in grids:
                other = f", or other sizes in {_KEY}" if len(sizes) > 1 else ""
                raise UserError(
                    f"train_dataloader.dataset: masks of images of {_by(size)} px have {_by(drawn)} patches "
                    f"(patch_size={patch}), and {masked[0].student_key} has {_by(grids[0])}: write "
                    f"patch_size={size[0] // grids[0][0]} in the mask transform{other}"
                )


def _check_teacher(distiller: Any, size: tuple[int, int]) -> None:
    backbone = getattr(distiller.teacher, "backbone", None)
    if backbone is None:
        return
    entering, key = distiller.teacher.input_size(size), distiller.teacher_key
    patch, own = getattr(backbone, "patch_size", None), getattr(distiller.student, "patch_size", 1)
    if getattr(backbone, "needs_whole_patches", False) and isinstance(patch, int):
        if any(side % patch for side in entering):
            common = math.lcm(patch, own if isinstance(own, int) else 1)
            raise UserError(
                f"{_KEY}: images of {_by(size)} px enter {key} with {_by(entering)} px, which do not divide into its "
                f"patches of {patch} px: write sizes that {common} divides, or {key}.img_size={16 * patch}"
            )
    elif grid_at(backbone, entering) is None:
        fitting = getattr(backbone, "img_size", None) or 224
        raise UserError(
            f"{_KEY}: images of {_by(size)} px enter {key} with {_by(entering)} px, which its backbone does not take: "
            f"write other sizes, or {key}.img_size={fitting}"
        )


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
