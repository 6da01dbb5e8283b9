"""A CLIP-like model: an image tower and a text tower with a shared embedding space."""

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

    The image tower is any backbone of the toolbox (``ViT``, ``TimmBackbone``, mmpretrain's). Its ``cls`` is projected
    without a bias, as in CLIP.

    Args:
        image: Config of the backbone.
        text: Config of the text tower; None for a student that shares the teacher's.
        embed_dim: Width of the shared space.
        img_size: Side of the images in pixels; passed to the image tower if it is one of this toolbox's.
        scale: Factor from cosines to scores; CLIP's ends at 100. Replaced by the checkpoint's.
        checkpoint: File with a complete CLIP, with the parameter names of OpenAI, open_clip (``visual.*``,
            ``logit_scale``...) or transformers' ``CLIPModel``.

    Attributes:
        text: The text tower, or None.

    Raises:
        CheckpointError: ``checkpoint`` cannot be read, or does not match the model.
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
        # Backbones of other toolboxes ("mmpretrain.ResNet") may not have this argument.
        sizes = {} if "." in str(image.get("type")).removeprefix("proteus.") else {"img_size": img_size}
        self.image: Any = build_backbone({**sizes, **image})
        self.projection = nn.Linear(self.image.embed_dim, embed_dim, bias=False)
        nn.init.normal_(self.projection.weight, std=self.image.embed_dim**-0.5)
        self.text: OpenClipText | None = (
            None if text is None else MODELS.build(dict(text), default_args={"embed_dim": embed_dim})
        )
        self.embed_dim = embed_dim
        self.img_size = img_size
        # A buffer: not trained, but exported with the weights.
        self.register_buffer("logit_scale", torch.tensor(math.log(scale)))
        if checkpoint is not None:
            self.load(checkpoint)

    @property
    def timm_args(self) -> dict[str, Any]:
        """Arguments of ``timm.create_model`` for the image tower, to export it without the projection."""
        return self.image.timm_args

    def timm_state(self) -> dict[str, Tensor]:
        """Return the image tower's weights with timm's names."""
        return self.image.timm_state()

    def init_weights(self) -> None:
        """Nothing to do: every part has initialised itself or loaded its weights when it was built."""

    def load(self, checkpoint: str | Path) -> None:
        """Load both towers, their projections and the scale.

        Raises:
            CheckpointError: The file cannot be read, lacks a part, or does not match the model.
        """
        state = to_openai(read_state_dict(checkpoint))
        missing = [key for key in ("visual.proj", "logit_scale") if key not in state]
        if missing:
            raise CheckpointError(
                f"{checkpoint} has no {missing[0]!r}, so it is not a complete CLIP with a ViT: pass an image tower as "
                "image.checkpoint, or a CLIP of OpenAI, open_clip or transformers here"
            )
        self.image.load(checkpoint)
        load_strictly(self.projection, {"weight": state["visual.proj"].T.float().contiguous()}, checkpoint)
        if self.text is not None:
            self.text.load(state, checkpoint)
        if not self.logit_scale.is_meta:
            self.logit_scale.copy_(state["logit_scale"].float().squeeze())

    def encode_images(self, images: Tensor) -> Tensor:
        """Encode normalised images ``(B, 3, H, W)``; return unnormalised embeddings ``(B, embed_dim)``."""
        return self.projection(self.image(images).cls)

    def encode_texts(self, tokens: Tensor) -> Tensor:
        """Encode tokens ``(N, L)``; return unnormalised embeddings ``(N, embed_dim)``.

        Raises:
            ValueError: The model has no text tower.
        """
        if self.text is None:
            raise ValueError("this model has no text tower: set its text")
        return self.text(tokens)

    def forward(self, images: Tensor, tokens: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Run both towers; the second output is None without tokens or without a text tower."""
        texts = None if tokens is None or self.text is None else self.text(tokens)
        return self.encode_images(images), texts
