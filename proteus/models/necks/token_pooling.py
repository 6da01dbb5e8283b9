"""``Features`` -> the one vector an image that a classification head takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from proteus.registry import MODELS
from proteus.structures import Features

POOLS = ("cls", "avg", "cls+avg")


@MODELS.register_module()
class TokenPooling(nn.Module):
    """A neck that connects mmpretrain's classifiers to any backbone of Proteus: ``ViT``, ``TimmBackbone``.

    Args:
        pool: ``cls``, the cls token (a CNN's pooled map); ``avg``, the mean of the patch tokens; ``cls+avg``, both one
            after the other, so that the head's ``in_channels`` is twice the backbone's width.

    Raises:
        ValueError: ``pool`` is another.
    """

    def __init__(self, pool: str = "cls") -> None:
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"neck.pool={pool!r}: write one of {', '.join(map(repr, POOLS))}")
        self.pool = pool

    def forward(self, features: Features) -> tuple[Tensor]:
        """Pool the features of a batch; returns ``(B, D)``, or ``(B, 2 D)``, in a tuple as mmpretrain's heads want it.

        Raises:
            TypeError: The backbone does not return ``Features``.
        """
        if not isinstance(features, Features):
            raise TypeError(
                f"TokenPooling takes the Features of a backbone of ours, not {type(features).__name__}: write "
                "model.backbone.type='ViT' or 'TimmBackbone', or a neck of mmpretrain for its own backbones"
            )
        if self.pool == "cls":
            return (features.cls,)
        mean = features.patches.mean(dim=1)
        return (mean if self.pool == "avg" else torch.cat([features.cls, mean], dim=1),)
