"""The image projection of a CLIP: from its cls token to the space that it shares with texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from proteus.checkpoints import CheckpointError, read_state_dict

# Names of OpenAI and open_clip (D, E); of transformers, of open_clip with a tower of timm's, and of timm (E, D).
_TRANSPOSED = "visual.proj"
_NAMES = (_TRANSPOSED, "visual_projection.weight", "visual.head.proj.weight", "head.weight")


@dataclass(frozen=True)
class ImageProjection:
    """A linear map of image embeddings.

    Attributes:
        weight: ``(E, D)`` float32.
        bias: ``(E,)`` float32; None without one.
    """

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, tokens: Tensor) -> Tensor:
        """Map ``(N, D)`` to ``(N, E)``."""
        return torch.nn.functional.linear(tokens, self.weight, self.bias)


def read_projection(path: str | Path) -> ImageProjection:
    """Read the image projection from the weights of a CLIP; no code in the file is run.

    Args:
        path: File with the names of OpenAI, open_clip, transformers (``CLIPModel``) or timm.

    Raises:
        CheckpointError: The file cannot be read, or has no image projection.
    """
    state = read_state_dict(path)
    name = next((name for name in _NAMES if name in state and state[name].ndim == 2), None)
    if name is None:
        raise CheckpointError(
            f"{path} has no image projection ({', '.join(_NAMES)}): a SigLIP pools into the space of its texts and "
            "needs none; for a CLIP name the file with all of its weights"
        )
    weight = state[name].float()
    bias = state.get(name.removesuffix("weight") + "bias") if name.endswith(".weight") else None
    weight = weight.T.contiguous() if name == _TRANSPOSED else weight
    return ImageProjection(weight, None if bias is None else bias.float())
