"""A CLIP-like model: two towers into one space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from projects.dime_fm.hugging_face import to_openai
from projects.dime_fm.text_tower import OpenClipText
from proteus.checkpoints import CheckpointError, load_strictly, read_state_dict
from proteus.models.backbones import build_backbone
from proteus.registry import MODELS


@MODELS.register_module()
class DualEncoder(nn.Module):
    """An image tower and a text tower with a projection each.

    The image tower is any backbone of the toolbox (``ViT``, ``TimmBackbone``, mmpretrain's), whose ``cls`` is projected
    without a bias, as CLIP does it.

    Args:
        image: Config of the backbone.
        text: Config of the text tower; None for a student that shares the teacher's.
        embed_dim: Width of the shared space.
        img_size: Side in pixels of the images, handed on to the image tower if it is one of this toolbox's.
        scale: By which cosines become scores; CLIP ends its training at 100. A checkpoint's replaces it.
        checkpoint: File with a whole CLIP in OpenAI's or open_clip's names (``visual.*``, ``logit_scale``...), or in
            those of transformers' ``CLIPModel``.

    Attributes:
        text: The text tower, or None.

    Raises:
        CheckpointError: ``checkpoint`` cannot be read, or holds another model.
        ValueError: ``scale`` is not above 0.
    """

    logit_scale: Tensor

    def __init__(
        self,
        image: Mapping[str, Any],
        text: Mapping[str, Any] | None = None,
        embed_dim: int = 512,
        img_size: int = 224,
        scale: float = 100.0,
        checkpoint: str | Path | None = None,
    ) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale={scale}: write a number above 0; CLIP's is 100")
        # Another toolbox's backbone ("mmpretrain.ResNet") need not know the word.
        sizes = {} if "." in str(image.get("type")).removeprefix("proteus.") else {"img_size": img_size}
        self.image: Any = build_backbone({**sizes, **image})
        self.projection = nn.Linear(self.image.embed_dim, embed_dim, bias=False)
        nn.init.normal_(self.projection.weight, std=self.image.embed_dim**-0.5)
        self.text: OpenClipText | None = (
            None if text is None else MODELS.build(dict(text), default_args={"embed_dim": embed_dim})
        )
        self.embed_dim = embed_dim
        self.img_size = img_size
        # A buffer: nothing here trains it, and who exports the student wants it beside the weights.
        self.register_buffer("logit_scale", torch.tensor(math.log(scale)))
        if checkpoint is not None:
            self.load(checkpoint)

    @property
    def timm_args(self) -> dict[str, Any]:
        """What ``timm.create_model`` takes to build the image tower, for its export without the projection."""
        return self.image.timm_args

    def timm_state(self) -> dict[str, Tensor]:
        """The image tower's weights under timm's names."""
        return self.image.timm_state()

    def init_weights(self) -> None:
        """Nothing to do: every part has initialised itself or loaded its weights when it was built."""

    def load(self, checkpoint: str | Path) -> None:
        """Load both towers, their projections and the scale.

        Raises:
            CheckpointError: The file cannot be read, lacks a part, or holds another model.
        """
        state = to_openai(read_state_dict(checkpoint))
        missing = [key for key in ("visual.proj", "logit_scale") if key not in state]
        if missing:
            raise CheckpointError(
                f"{checkpoint} has no {missing[0]!r}, so it is no whole CLIP with a ViT: write its image tower's file "
                "as image.checkpoint, or name a file of OpenAI's, open_clip's or transformers' CLIPModel"
            )
        self.image.load(checkpoint)
        load_strictly(self.projection, {"weight": state["visual.proj"].T.float().contiguous()}, checkpoint)
        if self.text is not None:
            self.text.load(state, checkpoint)
        if not self.logit_scale.is_meta:
            self.logit_scale.copy_(state["logit_scale"].float().squeeze())

    def encode_images(self, images: Tensor) -> Tensor:
        """Encode images ``(B, 3, H, W)``, normalised; returns ``(B, embed_dim)``, not of length 1 yet."""
        return self.projection(self.image(images).cls)

    def encode_texts(self, tokens: Tensor) -> Tensor:
        """Encode tokens ``(N, L)``; returns ``(N, embed_dim)``, not of length 1 yet.

        Raises:
            ValueError: There is no text tower.
        """
        if self.text is None:
            raise ValueError("this model has no text tower: set its text")
        return self.text(tokens)

    def forward(self, images: Tensor, tokens: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Both towers; the second output is None where there are no tokens, or no text tower."""
        texts = None if tokens is None or self.text is None else self.text(tokens)
        return self.encode_images(images), texts
