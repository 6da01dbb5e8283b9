"""Any model of timm's as the backbone of a dense head."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from proteus.models.backbones.frozen import Freezable
from proteus.models.backbones.levels import feature_levels
from proteus.models.backbones.timm_backbone import TimmBackbone
from proteus.registry import MODELS


@MODELS.register_module()
class DenseTimm(Freezable, TimmBackbone):
    """A model of timm's that returns feature maps of several stages or blocks, the nearest to the image first.

    A CNN's and a hierarchical transformer's maps shrink from stage to stage, and need no ``Feature2Pyramid``; a ViT's
    are all of one size. What no returned map depends on is never trained.

    Args:
        arch: Name of the model in timm.
        out_indices: Stages or blocks as timm numbers them; the last four by default.
        final_norm: Let timm apply its final norm to each map, where the model has one.
        frozen: Train nothing of it and keep it in eval mode, statistics of batch norm included.
        img_size: Side in pixels of the images; a model of fixed size is built for it.
        checkpoint: File with the state dict of this model of timm's; a classifier in it is left.
        **options: What else ``timm.create_model`` takes.

    Raises:
        ValueError: ``arch`` is unknown or gives no intermediate maps, or a stage does not exist.
        CheckpointError: ``checkpoint`` cannot be read or holds another model.
    """

    def __init__(
        self,
        arch: str,
        out_indices: Sequence[int] | None = None,
        final_norm: bool = False,
        frozen: bool = False,
        img_size: int = 224,
        checkpoint: str | Path | None = None,
        **options: Any,
    ) -> None:
        of_students = sorted({"levels", "mask_colour"} & set(options))
        if of_students:
            raise ValueError(
                f"{of_students[0]}: only TimmBackbone takes it; write out_indices for the levels of DenseTimm"
            )
        super().__init__(arch, img_size=img_size, checkpoint=checkpoint, **options)
        self.out_indices = feature_levels(self.model, "out_indices", arch, out_indices)
        self.levels_there = [stage["num_chs"] for stage in self.model.feature_info]
        self.final_norm = final_norm
        self._freeze_what_is_unused()
        if frozen:
            self.freeze()

    @property
    def channels(self) -> tuple[int, ...]:
        """Width of each map that is returned."""
        return tuple(self.levels_there[index] for index in self.out_indices)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Return one map ``(B, D_i, h_i, w_i)`` for each of ``out_indices``; ``images`` are ``(B, 3, H, W)``."""
        maps = self.model.forward_intermediates(
            images,
            indices=list(self.out_indices),
            norm=self.final_norm,
            stop_early=True,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        return tuple(maps)

    def _freeze_unused(self) -> None:
        """Do nothing yet: what is unused depends on ``out_indices``."""

    def _freeze_what_is_unused(self) -> None:
        # timm knows what it would cut off; cutting would change the names that checkpoints have.
        if not hasattr(self.model, "prune_intermediate_layers"):
            return
        pruned = copy.deepcopy(self.model)
        pruned.prune_intermediate_layers(list(self.out_indices), prune_norm=not self.final_norm, prune_head=True)
        used = {name for name, _ in pruned.named_parameters()}
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in used)
