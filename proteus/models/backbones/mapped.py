"""A student with the heads that map its tokens to its teacher's space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from proteus.checkpoints import CheckpointError
from proteus.models.backbones.architecture import weights_of
from proteus.models.backbones.levels import token_width
from proteus.models.backbones.openmmlab import build_backbone
from proteus.models.heads.head_file import read_heads
from proteus.registry import MODELS
from proteus.structures import Features


@MODELS.register_module()
class MappedBackbone(nn.Module):
    """A student that returns its teacher's features as its heads predict them: "Lift", the projector kept at inference.

    Source: https://arxiv.org/abs/2511.15572. ``proteus.load_backbone(FOLDER, mapped=True)`` builds it.

    Args:
        backbone: ``type`` of the student.
        heads: File of the heads that ``ExportStudentHook(heads=True)`` wrote.
        teacher: Name of one of several teachers, for the space that tokens are mapped to.
        **options: Further keys of the student's config, such as ``img_size`` and ``checkpoint``.

    Attributes:
        embed_dim: Width of the teacher's tokens.
        img_size: Side of the images in pixels; None if the student takes any.

    Raises:
        CheckpointError: The heads are those of another student.
    """

    def __init__(self, backbone: str, heads: str | Path, teacher: str = "", **options: Any) -> None:
        super().__init__()
        self.backbone = build_backbone({"type": backbone, **options})
        self.heads = read_heads(Path(heads), weights_of(self.backbone), teacher)
        maps: dict[str, Any] = dict(self.heads.items())
        for kind, each in maps.items():
            width = token_width(self.backbone, kind)
            if each.head.in_dim != width:
                raise CheckpointError(
                    f"{heads} maps {kind} tokens of width {each.head.in_dim}, and the student has {width}"
                )
        self.embed_dim: int = maps["patches"].out_dim
        self.img_size: int | None = getattr(self.backbone, "img_size", None)
        self.patch_size: int | None = getattr(self.backbone, "patch_size", None)

    def grid_for(self, img_size: int | tuple[int, int]) -> tuple[int, int]:
        """``(h, w)``: patches down and across of an image of ``img_size`` pixels, a side or height and width."""
        return self.backbone.grid_for(img_size)

    def init_weights(self) -> None:
        """Do nothing: the constructor has loaded the weights."""

    def forward(self, images: Tensor) -> Features:
        """Encode images ``(B, 3, H, W)``, normalised; tokens have the teacher's width."""
        features = self.backbone(images)
        return Features(self.heads["cls"](features.cls), self.heads["patches"](features.patches), features.grid)
