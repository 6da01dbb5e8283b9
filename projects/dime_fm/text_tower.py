"""CLIP's text tower."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from proteus.checkpoints import CheckpointError, load_strictly
from proteus.evaluation.text.open_clip_parts import open_clip
from proteus.registry import MODELS


@MODELS.register_module()
class OpenClipText(nn.Module):
    """CLIP's text transformer from open_clip, with its projection to the space shared with images.

    It reads tokens of OpenAI's tokenizer and pools at the end-of-text token. Weights are random, as initialised by
    open_clip, until the owner loads a checkpoint.

    Args:
        embed_dim: Width of the shared space; filled in by the owner.
        width: Width of the transformer.
        layers: Number of blocks.
        heads: Number of attention heads.
        context_length: Tokens per sentence, including start and end.
        quick_gelu: QuickGELU, for OpenAI's weights; False for GELU, as in most of open_clip's weights.
        grad_checkpointing: Recompute activations in the backward pass instead of storing them.

    Raises:
        ImportError: open_clip is not installed.
        ValueError: ``heads`` does not divide ``width``.
    """

    def __init__(
        self,
        embed_dim: int,
        width: int = 512,
        layers: int = 12,
        heads: int = 8,
        context_length: int = 77,
        quick_gelu: bool = True,
        grad_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"text.heads={heads} does not divide text.width={width}")
        transformer = open_clip().transformer
        self.transformer = transformer.TextTransformer(
            context_length=context_length,
            width=width,
            heads=heads,
            layers=layers,
            output_dim=embed_dim,
            act_layer=transformer.QuickGELU if quick_gelu else nn.GELU,
        )
        if grad_checkpointing:
            self.transformer.set_grad_checkpointing(True)
        self.context_length = context_length

    def load(self, state: Mapping[str, Tensor], source: str | Path) -> None:
        """Load the text tower from a CLIP's weights with the names of OpenAI or open_clip.

        Args:
            state: All weights of the CLIP.
            source: The file, for error messages.

        Raises:
            CheckpointError: It has no text tower, or a different one.
        """
        own = self.transformer.state_dict()
        given = {key.removeprefix("text."): value for key, value in state.items() if not key.startswith("vis")}
        parts = {name.split(".")[0] for name in own}
        given = {key: value for key, value in given.items() if key.split(".")[0] in parts}
        if not given:
            raise CheckpointError(
                f"{source} has no CLIP text tower (no 'token_embedding.weight'); name a file of OpenAI or open_clip "
                "with both towers"
            )
        load_strictly(self.transformer, {key: value.float() for key, value in given.items()}, source)

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode tokens ``(N, context_length)`` int64; return unnormalised embeddings ``(N, embed_dim)``."""
        return self.transformer(tokens)
