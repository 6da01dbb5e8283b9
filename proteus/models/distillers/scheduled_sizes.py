"""Check that the teachers of a run take images of all sizes of its schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from proteus.structures import UserError


def check_teacher_sizes(model: Any, sizes: Iterable[tuple[int, int]]) -> None:
    """Check the sizes in which images of a schedule enter each teacher.

    Args:
        model: A model with ``distillers``.
        sizes: Height and width of the images in pixels.

    Raises:
        UserError: A teacher does not divide them into whole patches; the message has the keys, and what to write.
    """
    for distiller in model.distillers.values():
        backbone = getattr(distiller.teacher, "backbone", None)
        patch, own = getattr(backbone, "patch_size", None), getattr(distiller.student, "patch_size", 1)
        if not getattr(backbone, "needs_whole_patches", False) or not isinstance(patch, int):
            continue
        for size in sizes:
            entering = distiller.teacher.input_size(size)
            if any(side % patch for side in entering):
                common = math.lcm(patch, own if isinstance(own, int) else 1)
                raise UserError(
                    f"train_dataloader.batch_sampler: images of {size[0]}x{size[1]} px enter {distiller.key}.teacher "
                    f"with {entering[0]}x{entering[1]} px, which do not divide into its patches of {patch} px: write "
                    f"sizes that {common} divides, or {distiller.key}.teacher.img_size={16 * patch}"
                )
