"""Vision transformers: timm's architecture, with DINOv2's position interpolation and a mask token."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from proteus.checkpoints import load_strictly, read_state_dict, to_timm_keys
from proteus.checkpoints.keys import CLASSIFIER
from proteus.models.backbones.features import both_sides, sides_of
from proteus.models.backbones.openmmlab_vit import OpenMMLabViT, openmmlab_checkpoint
from proteus.models.backbones.plain_vit import ARCHITECTURES, create_vit
from proteus.models.backbones.pos_embed import FrozenPositions, interpolate_pos_embed, resample_learnt
from proteus.registry import MODELS
from proteus.structures import DataError, Features
from proteus.utils.argument_checks import check_number, check_side, check_whole


@MODELS.register_module()
class ViT(OpenMMLabViT):
    """A vision transformer of the DINOv2, CLIP or plain form, built by timm.

    Weights are random as DINOv2's student is (truncated normal 0.02, LayerScale 1.0; docs/reproduction.md#student)
    unless ``checkpoint`` is given. The sides of images are multiples of ``patch_size``.

    Args:
        arch: ``tiny``, ``small``, ``base``, ``large``, ``giant``; ``clip-base``, ``clip-large`` for the vision tower of
            OpenAI's CLIP up to its last norm, without the projection; or the name of any timm model that is a plain
            ``VisionTransformer``. open_clip's CLIPs have GELU unless they are called quickgelu, which cannot be
            detected in a file: use timm's ``vit_large_patch14_clip_224`` and the like for them.
        img_size: Side in pixels that the position embedding is made for; ``(224, 224)`` is taken as well.
        patch_size: Side of a patch in pixels, likewise.
        embed_dim: Width; the architecture's own by default.
        depth: Number of blocks; the architecture's own by default.
        num_heads: Attention heads; the architecture's own by default.
        init_values: Initial LayerScale; ``None`` builds blocks without LayerScale, as CLIP's and SynCLR's are;
            ``auto`` is ``None`` for CLIP and 1.0 else.
        reg_tokens: Register tokens, which ``Features`` leaves out.
        drop_path_rate: Stochastic depth of the last block, growing linearly from 0.
        mask_token: Whether the model can replace patches by a learnt token (needed by a masked objective).
        grad_checkpointing: In training keep each block's input alone and compute the rest again in the backward pass,
            with the same drop path: the same gradients, a fraction of the memory, a third more time.
        interpolate_antialias: See :func:`interpolate_pos_embed`.
        interpolate_offset: See :func:`interpolate_pos_embed`.
        checkpoint: File with the weights, in any form that :func:`proteus.checkpoints.to_timm_keys` knows.
        allow_extra_blocks: Take the first ``depth`` blocks of a file with more, for instance if the last ones were
            fine-tuned for another task. ``False`` refuses such a file.
        frozen_stages: As in mmpretrain and mmseg: 0 freezes the embeddings of patches and positions and the prefix
            tokens, ``n`` the first ``n`` blocks as well, all blocks also the final norm; -1 nothing.
        pretrained: OpenMMLab's older name of ``checkpoint``.
        init_cfg: OpenMMLab's other name of it: ``dict(type='Pretrained', checkpoint=...)``.
        with_cp: OpenMMLab's name of ``grad_checkpointing``.

    Attributes:
        timm_args: What ``timm.create_model`` takes to build the same architecture.

    Raises:
        ValueError: ``arch`` is unknown, a size does not fit, or an argument has a wrong value.
        CheckpointError: ``checkpoint`` cannot be read or holds another model.
    """

    needs_whole_patches: ClassVar[bool] = True
    """The sides of images are multiples of ``patch_size``; read by the checks of configs."""

    def __init__(
        self,
        arch: str = "small",
        img_size: int | Sequence[int] = 224,
        patch_size: int | Sequence[int] = 14,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        init_values: float | str | None = "auto",
        reg_tokens: int = 0,
        drop_path_rate: float = 0.0,
        mask_token: bool = False,
        grad_checkpointing: bool = False,
        interpolate_antialias: bool = False,
        interpolate_offset: float = 0.1,
        checkpoint: str | Path | None = None,
        allow_extra_blocks: bool = False,
        frozen_stages: int = -1,
        pretrained: str | Path | None = None,
        init_cfg: Mapping[str, Any] | None = None,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        checkpoint = openmmlab_checkpoint(checkpoint, pretrained, init_cfg)
        img_size, patch_size = check_side("img_size", img_size), check_side("patch_size", patch_size)
        if img_size % patch_size:
            raise ValueError(
                f"img_size={img_size} is not a multiple of patch_size={patch_size}: "
                f"write {img_size // patch_size * patch_size} or {(img_size // patch_size + 1) * patch_size}"
            )
        if not isinstance(arch, str):
            raise ValueError(f"arch={arch!r}: write one of {', '.join(ARCHITECTURES)}, or a name in timm")
        if init_values == "auto":
            init_values = None if "clip" in ARCHITECTURES.get(arch, arch) else 1.0
        sizes: dict[str, Any] = {"embed_dim": embed_dim, "depth": depth, "num_heads": num_heads}
        for name, value in sizes.items():
            if value is not None:
                check_whole(name, value)
        if init_values is not None:
            check_number("init_values", init_values)
        check_whole("reg_tokens", reg_tokens, least=0)
        check_number("drop_path_rate", drop_path_rate, 0, 0.999)
        check_number("interpolate_offset", interpolate_offset, 0, 0.999)
        self.timm_args = {
            "model_name": ARCHITECTURES.get(arch, arch),
            "img_size": img_size,
            "patch_size": patch_size,
            # timm drops arguments that are None, and takes the architecture's own LayerScale; 0 builds none.
            "init_values": 0.0 if init_values is None else init_values,
            "reg_tokens": reg_tokens,
            "no_embed_class": reg_tokens > 0,
            **{key: value for key, value in sizes.items() if value is not None},
        }
        self.vit = create_vit(arch, drop_path_rate=drop_path_rate, **self.timm_args)
        self._frozen_positions = FrozenPositions()
        self.img_size = img_size
        self.patch_size = patch_size
        self.embed_dim: int = self.vit.embed_dim
        self.grad_checkpointing = grad_checkpointing or with_cp
        self.interpolate_antialias = interpolate_antialias
        self.interpolate_offset = interpolate_offset
        self.allow_extra_blocks = allow_extra_blocks
        self.mask_token = nn.Parameter(torch.zeros(1, self.embed_dim)) if mask_token else None
        self.freeze_stages(frozen_stages)
        if checkpoint is not None:
            self.load(checkpoint)

    # What to do about an image that does not divide into patches.
    remedy = "resize or crop them"

    @property
    def grid(self) -> tuple[int, int]:
        """``(h, w)``: patches down and across of an image of ``img_size``."""
        return self.grid_for(self.img_size)

    def grid_for(self, img_size: int | tuple[int, int]) -> tuple[int, int]:
        """``(h, w)``: patches down and across of an image of ``img_size`` pixels, a side or height and width."""
        height, width = both_sides(img_size)
        return height // self.patch_size, width // self.patch_size

    def timm_state(self) -> dict[str, Tensor]:
        """The weights under timm's names; ``timm.create_model(**timm_args, num_classes=0)`` loads them strictly."""
        return self.vit.state_dict()

    def init_weights(self) -> None:
        """Nothing to do: the constructor has initialised or loaded. MMEngine would otherwise ask timm to start over."""

    def load(self, checkpoint: str | Path) -> None:
        """Load weights; position embeddings learnt on another (square) grid are interpolated to this one.

        A mask token in the file is taken if this model has one and left otherwise; a linear classifier is left.

        Raises:
            CheckpointError: The file cannot be read, or holds another architecture, width or patch size.
        """
        state = to_timm_keys(read_state_dict(checkpoint))
        mask_token = state.pop("mask_token", None)
        state = {key: value for key, value in state.items() if key not in CLASSIFIER}
        if self.allow_extra_blocks:
            state = {key: value for key, value in state.items() if not self._is_beyond(key)}
        load_strictly(self.vit, self.fit_positions(state), checkpoint)
        if self.mask_token is not None and mask_token is not None:
            self.mask_token.data.copy_(mask_token.view_as(self.mask_token))

    def _is_beyond(self, key: str) -> bool:
        name, _, rest = key.partition(".")
        index = rest.partition(".")[0]
        return name == "blocks" and index.isdigit() and int(index) >= self.depth

    def fit_positions(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Resample the position embedding of a file to this model's grid, if only its number of patches differs."""
        positions = state.get("pos_embed")
        if positions is None or positions.shape[-1] != self.embed_dim:
            return state
        return self.with_own_positions(state)

    def with_own_positions(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of any width with positions as this model has them: on its grid, for cls only if it has one.

        Positions that form no square are left as they are.

        Args:
            state: Weights under timm's names, with ``pos_embed``.
        """
        positions = state["pos_embed"]
        side = math.isqrt(positions.shape[1])
        has_cls = positions.shape[1] == side**2 + 1
        if has_cls and self.vit.no_embed_class and "cls_token" in state:
            # Meta's file has a position for the cls token, also with registers; timm adds it to the cls token.
            state = {**state, "cls_token": state["cls_token"] + positions[:, :1]}
            positions = positions[:, 1:]
        if positions.shape[1] - side**2 in (0, 1):
            positions = interpolate_pos_embed(
                positions, (side, side), self.grid, self.interpolate_antialias, self.interpolate_offset
            )
        return {**state, "pos_embed": positions}

    def forward(self, images: Tensor, masks: Tensor | None = None) -> Features:
        """Encode images; features are those after the final LayerNorm.

        Args:
            images: ``(B, 3, H, W)``, normalised.
            masks: ``(B, h * w)`` bool; True patches are replaced by the mask token after the patch embedding and
                before the position embedding is added (docs/reproduction.md#masking).

        Returns:
            ``Features`` of width ``embed_dim``.
        """
        tokens, grid = self.embed(images, masks)
        return self._features(self._run_blocks(tokens), grid)

    def clean_and_masked(self, images: Tensor, masks: Tensor) -> tuple[Features, Features]:
        """Encode images, and the first of them a second time with patches masked, in one pass.

        It equals two calls of :meth:`forward`, and embeds the pixels once.

        Args:
            images: ``(B, 3, H, W)``, normalised.
            masks: ``(M, h * w)`` bool, for the first ``M`` images; as for :meth:`forward`.

        Returns:
            Features of the ``B`` clean images and of the ``M`` masked ones.
        """
        patches, grid = self.patches(images)
        both = torch.cat([patches, self._mask(patches[: masks.shape[0]], masks)])
        clean, masked = self._run_blocks(self._add_positions(both, grid)).split([images.shape[0], masks.shape[0]])
        return self._features(clean, grid), self._features(masked, grid)

    def encode_with_hidden_states(
        self, images: Tensor, masks: Tensor | None = None
    ) -> tuple[Features, Features | None, tuple[Features, ...]]:
        """Encode images as :meth:`forward` or :meth:`clean_and_masked`, and keep the residual stream.

        Args:
            images: ``(B, 3, H, W)``, normalised.
            masks: ``(M, h * w)`` bool, for the first ``M`` images; None for clean images only.

        Returns:
            Features of the clean images and, with masks, of the masked ones; and for each block the residual stream
            after it of the clean images, without the final LayerNorm.
        """
        patches, grid = self.patches(images)
        if masks is not None:
            patches = torch.cat([patches, self._mask(patches[: masks.shape[0]], masks)])
        streams: list[Tensor] = []
        tokens = self._run_blocks(self._add_positions(patches, grid), streams)
        count = images.shape[0]
        hidden = tuple(self._features(stream[:count], grid) for stream in streams)
        masked = None if masks is None else self._features(tokens[count:], grid)
        return self._features(tokens[:count], grid), masked, hidden

    def levels(self, images: Tensor, indices: Sequence[int], norm: bool = True) -> tuple[Features, ...]:
        """The outputs of several blocks, in ascending order of block.

        Args:
            images: ``(B, 3, H, W)``, normalised.
            indices: Blocks, counted from 0; negative from the end.
            norm: Pass each through the final LayerNorm (DINOv2's linear probe does, mmseg's necks do not).

        Raises:
            IndexError: A block that does not exist.
        """
        wanted = self._blocks(indices)
        tokens, grid = self.embed(images)
        outputs = []
        for index, block in enumerate(self.vit.blocks[: max(wanted) + 1]):
            tokens = self._run_block(block, tokens)
            if index in wanted:
                outputs.append(self._features(self.vit.norm(tokens) if norm else tokens, grid))
        return tuple(outputs)

    def _blocks(self, indices: Sequence[int]) -> set[int]:
        wrong = [i for i in indices if not isinstance(i, int) or not -self.depth <= i < self.depth]
        if wrong or not indices:
            raise IndexError(
                f"out_indices={list(indices)}: write blocks of a ViT with {self.depth} (0 to {self.depth - 1})"
            )
        return {index % self.depth for index in indices}

    def embed(self, images: Tensor, masks: Tensor | None = None) -> tuple[Tensor, tuple[int, int]]:
        """What the first block reads, ``(B, prefix + N, D)``, and the patches' grid (see :meth:`forward`)."""
        patches, grid = self.patches(images)
        return self._add_positions(patches if masks is None else self._mask(patches, masks), grid), grid

    def patches(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Embeddings of the patches, ``(B, N, D)`` before masks and positions, and their grid (see :meth:`forward`)."""
        height, width = sides_of(images)
        if height % self.patch_size or width % self.patch_size:
            raise DataError(
                f"images of {height}x{width} px do not divide into patches of {self.patch_size} px: {self.remedy}"
            )
        patches = self.vit.patch_embed(images)
        return patches.flatten(1, 2), (height // self.patch_size, width // self.patch_size)

    def _mask(self, patches: Tensor, masks: Tensor) -> Tensor:
        if self.mask_token is None:
            raise ValueError("masks were given to a ViT built with mask_token=False: set mask_token=True")
        if masks.shape[-1] != patches.shape[-2]:
            raise DataError(
                f"masks of {masks.shape[-1]} values for images of {patches.shape[-2]} patches: draw one for each"
            )
        return torch.where(masks[..., None], self.mask_token.to(patches.dtype), patches)

    def _run_blocks(self, tokens: Tensor, streams: list[Tensor] | None = None) -> Tensor:
        for block in self.vit.blocks:
            tokens = self._run_block(block, tokens)
            if streams is not None:
                streams.append(tokens)
        return self.vit.norm(tokens)

    def _run_block(self, block: nn.Module, tokens: Tensor) -> Tensor:
        if self.grad_checkpointing and self.training and torch.is_grad_enabled():
            return recompute(block, tokens, use_reentrant=False)
        return block(tokens)

    def _add_positions(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        vit = self.vit
        positions = self._positions(grid)
        prefix = [vit.cls_token] if vit.reg_token is None else [vit.cls_token, vit.reg_token]
        prefix = [token.expand(patches.shape[0], -1, -1) for token in prefix]
        if vit.no_embed_class:
            tokens = torch.cat([*prefix, patches + positions], dim=1)
        else:
            tokens = torch.cat([*prefix, patches], dim=1) + positions
        return vit.norm_pre(tokens)

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        positions, own = self.vit.pos_embed, self.vit.patch_embed.grid_size
        options = (self.interpolate_antialias, self.interpolate_offset)
        if own == grid:
            return positions
        if not positions.requires_grad:
            return self._frozen_positions.resampled(positions, own, grid, *options)
        if self.training and torch.is_grad_enabled():
            return resample_learnt(positions, own, grid, *options)
        return interpolate_pos_embed(positions, own, grid, *options)

    def _features(self, tokens: Tensor, grid: tuple[int, int]) -> Features:
        prefix = self.vit.num_prefix_tokens
        # Not two slices: their gradients would each be filled up with zeros, and the two added.
        first, patches = tokens.split([prefix, tokens.shape[1] - prefix], dim=1)
        return Features(first[:, 0], patches, grid)
