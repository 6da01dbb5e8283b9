"""The backbone of the released segmentation models, which is not quite the student that was distilled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from proteus.models.backbones.dense_vit import DenseViT
from proteus.registry import MODELS
from proteus.structures import DataError


@MODELS.register_module()
class RelPosDenseViT(DenseViT):
    """``DenseViT`` with a learnt relative position bias in the attention of every block (docs/reproduction.md#ade20k).

    The released code fine-tunes in mmseg's ``MAE`` backbone, which adds a table to each block in addition to the
    absolute positions: for a grid of ``h x w``, ``(2h - 1)(2w - 1) + 3`` biases per head, three of them for the cls
    token. No distilled checkpoint has them; they start at zero, so that the first step equals ``DenseViT``'s, and are
    trained with the rest. They tie the model to ``img_size``.

    Args:
        **vit: As for :class:`~proteus.models.backbones.DenseViT`.

    Raises:
        ValueError: There are register tokens, for which the released code has no bias.
    """

    pairs: Tensor

    def __init__(self, frozen: bool = False, **vit: Any) -> None:
        super().__init__(**vit)
        if self.vit.num_prefix_tokens != 1:
            raise ValueError(f"reg_tokens={self.vit.num_prefix_tokens - 1}: RelPosDenseViT has none; use DenseViT")
        trained = [block.attn.qkv.weight.requires_grad for block in self.vit.blocks]
        entries = (2 * self.grid[0] - 1) * (2 * self.grid[1] - 1) + 3
        self.register_buffer("pairs", relative_positions(self.grid), persistent=False)
        for block, train in zip(self.vit.blocks, trained, strict=True):
            table = nn.Parameter(torch.zeros(entries, block.attn.num_heads), requires_grad=train)
            block.attn.register_parameter("relative_position_bias_table", table)
            block.attn.register_forward_pre_hook(self._add_bias, with_kwargs=True)
        if frozen:
            self.freeze()

    def _add_bias(self, attention: Any, arguments: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        tokens = arguments[0].shape[1]
        if tokens != len(self.pairs):
            raise DataError(
                f"{tokens - 1} patches were given to a RelPosDenseViT made for {len(self.pairs) - 1}: its bias is "
                f"for images of {self.img_size}x{self.img_size} px"
            )
        bias = attention.relative_position_bias_table[self.pairs].permute(2, 0, 1)
        return arguments, {**options, "attn_mask": bias.to(arguments[0].dtype)}

    def fit_positions(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """As that of the base, with the tables of this model, which a file of absolute positions does not have."""
        tables = {name: value for name, value in self.vit.state_dict().items() if name.endswith("position_bias_table")}
        return {**tables, **super().fit_positions(state)}


def relative_positions(grid: tuple[int, int]) -> Tensor:
    """Number the relative position of every two tokens, cls first, as BEiT does.

    Args:
        grid: ``(h, w)`` patches.

    Returns:
        ``(1 + h * w, 1 + h * w)`` integers below ``(2h - 1)(2w - 1) + 3``: ``[i, j]`` is where patch ``j`` lies from
        patch ``i``; the last three are cls to patch, patch to cls, and cls to itself.
    """
    height, width = grid
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)
    down = rows[:, None] - rows[None] + height - 1
    right = columns[:, None] - columns[None] + width - 1
    count = (2 * height - 1) * (2 * width - 1)
    pairs = torch.empty((1 + height * width,) * 2, dtype=torch.long)
    pairs[1:, 1:] = down * (2 * width - 1) + right
    pairs[0, :], pairs[:, 0], pairs[0, 0] = count, count + 1, count + 2
    return pairs
