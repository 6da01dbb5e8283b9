"""What a slice reads and writes of a ViT, in one form for learnt and for rotary positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import apply_rot_embed_cat
from timm.models.eva import Eva
from torch import Tensor, nn

from proteus.models.backbones import TimmBackbone, ViT, interpolate_pos_embed
from proteus.models.initialization.slicing.layers import fold_constants, write


class PlainBlock:
    """A block as the fits read and write it, of timm's ``VisionTransformer`` unless a subclass says otherwise.

    Attributes:
        norm1: LayerNorm before the attention.
        attn: The attention.
        scale1: LayerScale after it, ``(D,)``; None for a block without.
        norm2: LayerNorm before the MLP.
        mlp: The MLP.
        scale2: LayerScale after it.
    """

    def __init__(self, block: Any) -> None:
        self.norm1, self.attn, self.norm2, self.mlp = block.norm1, block.attn, block.norm2, block.mlp
        self.scale1, self.scale2 = self._scales(block)

    def attend(self, stream: Tensor) -> Tensor:
        """Return what the attention writes to the stream."""
        return _scaled(self._run_attention(self.norm1(stream)), self.scale1)

    def transform(self, stream: Tensor) -> Tensor:
        """Return what the MLP writes to the stream."""
        return _scaled(self.mlp(self.norm2(stream)), self.scale2)

    def qkv(self) -> tuple[Tensor, Tensor | None]:
        """Return weight ``(3 H w, D)`` and bias ``(3 H w,)`` of queries, keys and values."""
        return self.attn.qkv.weight, self.attn.qkv.bias

    def write_qkv(self, weight: Tensor, bias: Tensor) -> None:
        """Set weight and bias of queries, keys and values."""
        if self.attn.qkv.bias is None:
            weight = fold_constants(self.norm1, weight, bias)
        write(self.attn.qkv, weight, bias)

    def rotate(self, tokens: Tensor) -> Tensor:
        """Turn queries or keys ``(B, H, N, w)`` by their positions; there is nothing to do."""
        return tokens

    def silence(self) -> None:
        """Write nothing to the stream: the block is the identity, and learns from the first gradient on."""
        for layer, scale in ((self.attn.proj, self.scale1), (self.mlp.fc2, self.scale2)):
            write(layer, torch.zeros_like(layer.weight), layer.weight.new_zeros(len(layer.weight)))
            if scale is not None:
                nn.init.ones_(scale)  # timm's of DINOv3, 1e-5, would make the gradients as small

    def _scales(self, block: Any) -> tuple[Tensor | None, Tensor | None]:
        return getattr(block.ls1, "gamma", None), getattr(block.ls2, "gamma", None)

    def _run_attention(self, read: Tensor) -> Tensor:
        out: Tensor = self.attn(read)
        return out


class RotaryBlock(PlainBlock):
    """A block of timm's ``Eva``, which DINOv3 is.

    Args:
        block: The block.
        rope: Sines and cosines of the patches' positions, ``(h * w, 2 w)``.
    """

    def __init__(self, block: Any, rope: Tensor) -> None:
        super().__init__(block)
        self._rope = rope

    def qkv(self) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias, which is zero for the keys."""
        attention = self.attn
        if attention.q_bias is None:
            return attention.qkv.weight, None
        return attention.qkv.weight, torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])

    def write_qkv(self, weight: Tensor, bias: Tensor) -> None:
        """Set weight and bias; the keys have none, and their constant matters, since positions turn it."""
        if self.attn.q_bias is not None:
            queries, keys, values = bias.chunk(3)
            self.attn.q_bias.copy_(queries)
            self.attn.v_bias.copy_(values)
            bias = torch.cat([torch.zeros_like(queries), keys, torch.zeros_like(values)])
        self.attn.qkv.weight.copy_(fold_constants(self.norm1, weight, bias))

    def rotate(self, tokens: Tensor) -> Tensor:
        """Turn queries or keys ``(B, H, N, w)`` by their positions, which cls token and registers do not have."""
        prefix = self.attn.num_prefix_tokens
        turned = apply_rot_embed_cat(tokens[:, :, prefix:], self._rope, half=self.attn.rotate_half)
        return torch.cat([tokens[:, :, :prefix], turned], dim=2)

    def _scales(self, block: Any) -> tuple[Tensor | None, Tensor | None]:
        return block.gamma_1, block.gamma_2

    def _run_attention(self, read: Tensor) -> Tensor:
        out: Tensor = self.attn(read, rope=self._rope)
        return out


class PlainViT:
    """A ViT with learnt positions.

    Attributes:
        vit: timm's model.
        blocks: Its blocks.
        mask_token: Takes the place of masked patches, ``(1, D)``; None for a model without.
        patch_size: Side of a patch in pixels.
        grid: Patches down and across that the positions are learnt for.
    """

    def __init__(self, backbone: ViT) -> None:
        self.vit: Any = backbone.vit
        self.blocks = [PlainBlock(block) for block in self.vit.blocks]
        self.mask_token = backbone.mask_token
        self.patch_size = backbone.patch_size
        self.grid = backbone.grid
        self._backbone = backbone

    def embed(self, images: Tensor) -> Tensor:
        """Return what the first block reads, ``(B, P + N, D)``."""
        return self._backbone.embed(images)[0]

    def patches(self, images: Tensor) -> Tensor:
        """Return the embeddings of the patches before positions are added, ``(B, N, D)``."""
        return self._backbone.patches(images)[0]

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Return the position embedding of another grid, ``(1, P + N, D)``."""
        backbone = self._backbone
        options = (backbone.interpolate_antialias, backbone.interpolate_offset)
        return interpolate_pos_embed(self.vit.pos_embed, self.grid, grid, *options)


class RotaryViT:
    """A ViT that turns queries and keys by the positions of their patches. It has no mask token.

    Args:
        backbone: The model.
        size: Height and width of the images in pixels.

    Attributes:
        vit: timm's model.
        blocks: Its blocks.
    """

    mask_token = None

    def __init__(self, backbone: TimmBackbone, size: Sequence[int]) -> None:
        self.vit: Any = backbone.model
        height, width = (side // patch for side, patch in zip(size, self.vit.patch_embed.patch_size, strict=True))
        rope = self.vit.rope.get_embed(shape=(height, width))
        self.blocks = [RotaryBlock(block, rope) for block in self.vit.blocks]

    def embed(self, images: Tensor) -> Tensor:
        """Return what the first block reads, ``(B, P + N, D)``."""
        prefix = prefix_tokens(self.vit).expand(len(images), -1, -1)
        return torch.cat([prefix, self.patches(images)], dim=1)

    def patches(self, images: Tensor) -> Tensor:
        """Return the embeddings of the patches, ``(B, N, D)``."""
        embedding = self.vit.patch_embed
        # Not by its forward: in a model that is made for images of one size it is all that refuses others.
        patches: Tensor = embedding.norm(embedding.proj(images).permute(0, 2, 3, 1))
        return patches.flatten(1, 2)


SliceableViT = PlainViT | RotaryViT


def timm_vit(backbone: Any) -> Any:
    """Return timm's model in a backbone of a kind that can be sliced; None for another."""
    if isinstance(backbone, ViT):
        return backbone.vit
    return backbone.model if isinstance(backbone, TimmBackbone) and isinstance(backbone.model, Eva) else None


def sliceable(backbone: Any, size: Sequence[int]) -> SliceableViT:
    """Return the form of a backbone that a slice is fitted in, on images of one height and width in pixels."""
    return PlainViT(backbone) if isinstance(backbone, ViT) else RotaryViT(backbone, size)


def prefix_tokens(vit: Any) -> Tensor:
    """Return the cls token and the registers of timm's model, ``(1, P, D)``."""
    return vit.cls_token if vit.reg_token is None else torch.cat([vit.cls_token, vit.reg_token], dim=1)


def _scaled(tokens: Tensor, scale: Tensor | None) -> Tensor:
    return tokens if scale is None else tokens * scale
