"""Frozen image-text teacher."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.dime_fm.dual_encoder import DualEncoder
from proteus.checkpoints import CheckpointError
from proteus.datasets.teacher_cache import plain
from proteus.registry import MODELS
from proteus.structures import Features
from proteus.utils.digest import weights_digest
from proteus.utils.precision import has_bfloat16


@MODELS.register_module()
class FrozenDualEncoder(nn.Module):
    """A :class:`DualEncoder` without training, gradients or checkpoints (its owner does not register it).

    It takes images with the student's normalisation.

    Args:
        encoder: Config of the model, with a text tower.
        dtype: ``float32``, ``bfloat16``, or ``auto``: bfloat16 on GPUs that have it, else float32.
        seed: Seed of weights that no checkpoint provides, for a partly random teacher; None uses the run's random
            state.

    Raises:
        ValueError: ``dtype`` is unknown, or the model has no text tower.
        CheckpointError: Weights cannot be read, or do not match the model.
    """

    def __init__(self, encoder: Mapping[str, Any], dtype: str = "auto", seed: int | None = None) -> None:
        super().__init__()
        if dtype not in ("auto", "float32", "bfloat16"):
            raise ValueError(f"teacher.dtype={dtype!r}: write 'auto', 'float32' or 'bfloat16'")
        with nullcontext() if seed is None else torch.random.fork_rng(devices=[]):
            if seed is not None:
                torch.manual_seed(seed)
            try:
                self.encoder: DualEncoder = MODELS.build(dict(encoder)).requires_grad_(False)
            except CheckpointError as error:
                raise CheckpointError(f"encoder.checkpoint: {error}") from error
        if self.encoder.text is None:
            raise ValueError("model.teacher.encoder.text is missing: a teacher needs both towers")
        self.dtype = dtype
        self._config = plain(encoder)
        super().train(False)

    @property
    def embed_dim(self) -> int:
        """Width of the shared space of images and sentences."""
        return self.encoder.embed_dim

    @property
    def context_length(self) -> int:
        """Tokens of a sentence."""
        assert self.encoder.text is not None
        return self.encoder.text.context_length

    def train(self, mode: bool = True) -> FrozenDualEncoder:
        """Stay in eval mode, whatever ``mode`` is."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenDualEncoder:
        # An EMA deep-copies the model that owns this teacher; what never changes can be shared.
        return self

    def to_device(self, device: torch.device) -> None:
        """Move the weights to ``device`` and cast them to its dtype; the scale stays in float32."""
        self.to(device)
        low = has_bfloat16(device)
        dtype = getattr(torch, self.dtype) if self.dtype != "auto" else torch.bfloat16 if low else torch.float32
        assert self.encoder.text is not None
        for part in (self.encoder.image, self.encoder.projection, self.encoder.text):
            part.to(dtype)

    def forward(self, images: Tensor) -> Features:
        """Return the embeddings of images ``(B, 3, H, W)`` as features without patches, to be cached."""
        embeddings = self.encode_images(images)
        return Features(embeddings, embeddings[:, None, :][:, :0], (0, 0))

    def image_identity(self) -> dict[str, Any]:
        """Return what the image embeddings depend on, apart from the normalisation's statistics."""
        encoder = self.encoder
        return {
            "weights": weights_digest(nn.ModuleList([encoder.image, encoder.projection]).state_dict()),
            "architecture": _without_file(self._config["image"]),
            "img_size": encoder.img_size,
            "dtype": str(encoder.projection.weight.dtype).removeprefix("torch."),
        }

    def text_identity(self) -> dict[str, Any]:
        """Return what the sentence embeddings depend on."""
        assert self.encoder.text is not None
        return {
            "weights": weights_digest(self.encoder.text.state_dict()),
            "architecture": _without_file(self._config["text"]),
            "dtype": str(next(self.encoder.text.parameters()).dtype).removeprefix("torch."),
        }

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Encode images ``(B, 3, H, W)`` of any size; return ``(B, D)`` in float32, of length 1."""
        side = self.encoder.img_size
        if images.shape[-2:] != (side, side):
            images = F.interpolate(images.float(), size=(side, side), mode="bicubic", antialias=True)
        with torch.autocast(images.device.type, enabled=False):
            found = self.encoder.encode_images(images.to(self.encoder.projection.weight.dtype))
        return F.normalize(found.float(), dim=-1)

    @torch.no_grad()
    def encode_texts(self, tokens: Tensor) -> Tensor:
        """Encode tokens ``(N, L)``; return ``(N, D)`` in float32, of length 1."""
        with torch.autocast(tokens.device.type, enabled=False):
            return F.normalize(self.encoder.encode_texts(tokens).float(), dim=-1)


def _without_file(config: Mapping[str, Any]) -> dict[str, Any]:
    # The digest of the weights stands for the file.
    return {key: value for key, value in config.items() if key not in ("checkpoint", "grad_checkpointing")}
