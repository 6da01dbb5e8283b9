"""A teacher's own classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from proteus.checkpoints import CheckpointError, load_strictly, read_state_dict
from proteus.registry import MODELS
from proteus.structures import Features
from proteus.utils.argument_checks import check_whole

# How the files that people have name the layer: Meta's DINOv2 classifiers; timm's ViTs; timm's CNNs; torchvision's.
_STEMS = ("", "linear_head.", "head.", "head.fc.", "fc.", "classifier.")


@MODELS.register_module()
class LinearClassifier(nn.Module):
    """Logits from a linear layer on a frozen backbone's tokens, as DINOv2's linear probes make them.

    The layer's input is the cls tokens of the last ``layers`` blocks, each after the final LayerNorm, first block
    first, and then the mean of the last block's patch tokens. Meta publishes such layers for one block
    (``dinov2_vitb14_linear_head.pth``) and for four (``dinov2_vitb14_linear4_head.pth``). ``layers=1, avgpool=False``
    is the classifier of an ordinary ViT or CNN; one file then serves backbone and classifier.

    Args:
        in_dim: Width of the backbone's tokens; the teacher fills it in.
        num_classes: Number of classes.
        layers: Number of last blocks with cls tokens to read.
        avgpool: Whether the mean patch token is read too.
        checkpoint: File with the layer's weight and bias, alone or among those of the whole network.

    Raises:
        CheckpointError: ``checkpoint`` holds no classifier, or one of another size.
    """

    def __init__(
        self,
        in_dim: int,
        num_classes: int = 1000,
        layers: int = 4,
        avgpool: bool = True,
        checkpoint: str | Path | None = None,
    ) -> None:
        super().__init__()
        check_whole("in_dim", in_dim)
        check_whole("num_classes", num_classes)
        check_whole("layers", layers)
        self.layers = layers
        self.avgpool = avgpool
        self.num_classes = num_classes
        self.linear = nn.Linear((layers + avgpool) * in_dim, num_classes)
        if checkpoint is not None:
            self.load(checkpoint)

    def load(self, checkpoint: str | Path) -> None:
        """Load the layer; see the class for what it may be called.

        Raises:
            CheckpointError: See the class.
        """
        state = read_state_dict(checkpoint)
        stem = next((s for s in _STEMS if f"{s}weight" in state and f"{s}bias" in state), None)
        if stem is None:
            names = ", ".join(f"{s}weight" for s in _STEMS)
            raise CheckpointError(f"{checkpoint} holds no linear classifier: none of {names} is in it with its bias")
        weight, bias = state[f"{stem}weight"], state[f"{stem}bias"]
        if weight.shape != self.linear.weight.shape:
            raise CheckpointError(
                f"{checkpoint} holds a classifier of shape {tuple(weight.shape)}, but num_classes={self.num_classes}, "
                f"layers={self.layers}, avgpool={self.avgpool} of this backbone make {tuple(self.linear.weight.shape)}"
                f"{self._advice(weight.shape)}"
            )
        load_strictly(self.linear, {"weight": weight, "bias": bias}, checkpoint)

    def _advice(self, shape: Sequence[int]) -> str:
        width = self.linear.in_features // (self.layers + self.avgpool)
        for layers, avgpool in ((1, True), (4, True), (1, False), (4, False)):
            if len(shape) == 2 and shape[-1] == (layers + avgpool) * width:
                return f": write layers={layers}, avgpool={avgpool}, num_classes={shape[0]}"
        return ": use the classifier that was made for this backbone"

    def forward(self, levels: Sequence[Features]) -> Tensor:
        """Classify images.

        Args:
            levels: Features of the last ``layers`` blocks, the last block's last.

        Returns:
            Logits ``(B, num_classes)``.
        """
        tokens = [level.cls for level in levels]
        if self.avgpool:
            tokens.append(levels[-1].patches.mean(1))
        return self.linear(torch.cat(tokens, dim=1))
