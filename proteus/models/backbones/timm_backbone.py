"""Any other model of timm's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from proteus.checkpoints import load_strictly, read_state_dict
from proteus.checkpoints.keys import take_named_like
from proteus.models.backbones.features import NoPatchesError, features_of_map, grid_of_tokens, shapes_of
from proteus.models.backbones.hidden_states import keeps_one_sequence
from proteus.models.backbones.levels import feature_levels, join_levels
from proteus.models.backbones.pixel_mask import (
    MaskColour,
    check_masks,
    frozen_statistics,
    has_batch_norm,
    make_colour,
    paint_masked,
)
from proteus.models.backbones.unused import unused_parameters
from proteus.registry import MODELS
from proteus.structures import Features
from proteus.utils.argument_checks import check_number, check_side


@MODELS.register_module()
class TimmBackbone(nn.Module):
    """Any timm model other than a plain ViT: a CNN, a hierarchical transformer, a ViT with rotary positions.

    Of a CNN and of whatever else ends in a map, ``cls`` is the pooled map, through the norm that timm's model has
    there (ConvNeXt), and ``patches`` are the last map. Of a model of tokens (DINOv3, EVA, SigLIP), ``cls`` is the cls
    token if timm's model norms it and what its head pools otherwise, and ``patches`` are the patch tokens after the
    last norm. Register tokens are left out.

    As a student it can give several levels of features to objectives on patches (``levels``), and be shown images with
    masked pixels (``mask_colour``), as timm's models have no mask token. Both are for training: exported files hold
    timm's model as it is.

    A model with a cls token and blocks that all pass on one sequence of tokens (DINOv3, EVA, BEiT, DeiT III) has hidden
    states, for :class:`~proteus.models.HiddenStatesObjective`.

    Weights are random as timm starts them unless ``checkpoint`` is given.

    Args:
        arch: Name of the model in timm.
        img_size: Side in pixels of the images; a model of fixed size is built for it.
        checkpoint: File with the state dict of this model of timm's; a classifier in it is left.
        grad_checkpointing: Compute activations again in the backward pass instead of keeping them, as timm's model does
            it. Batch norm then averages its statistics twice a step, those of masked images as well.
        levels: Feature levels that make up ``patches``: stages or blocks as timm numbers them, negative from the end,
            such as ``(-2, -1)``. Their maps are resampled to the finest grid of them and concatenated. By default
            ``patches`` are the last map or tokens.
        mask_colour: Colour of the pixels of masked patches: ``mean``, the mean colour of the image, or ``learnt``, a
            parameter. By default the model takes no masks.
        **options: What else ``timm.create_model`` takes: ``drop_path_rate``, ``dynamic_img_size``...

    Attributes:
        timm_args: What ``timm.create_model`` takes to build the same architecture.
        feature_levels: The levels, counted from 0; empty for the last map or tokens.
        learnt_colour: Colour of masked patches, ``(3, 1, 1)``, of normalised images; None unless it is learnt.

    Raises:
        ValueError: ``arch`` is unknown or cannot checkpoint its activations, a level does not exist, or what the model
            returns is neither a map nor tokens.
        CheckpointError: ``checkpoint`` cannot be read or holds another model.
    """

    model: Any
    _head_widens = False

    def __init__(
        self,
        arch: str,
        img_size: int = 224,
        checkpoint: str | Path | None = None,
        grad_checkpointing: bool = False,
        levels: Sequence[int] | None = None,
        mask_colour: MaskColour | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        img_size = check_side("img_size", img_size)
        if "drop_path_rate" in options:
            check_number("drop_path_rate", options["drop_path_rate"], 0, 0.999)
        if not isinstance(arch, str) or not timm.is_model(arch):
            near = ", ".join(get_close_matches(str(arch), timm.list_models())) or "none"
            raise ValueError(f"arch={arch!r} is not a timm model; nearest: {near}")
        self.timm_args: dict[str, Any] = {"model_name": arch, "img_size": img_size, **options}
        try:
            self.model = _create(self.timm_args)
        except TypeError as error:
            raise ValueError(f"arch={arch!r} does not take these options: {error}") from error
        self.img_size = img_size
        self.feature_levels = () if levels is None else feature_levels(self.model, "levels", arch, levels)
        self._level_norm = self._takes_level_norm()
        self.mask_colour = mask_colour
        self.learnt_colour = make_colour(mask_colour)
        self._has_batch_norm = has_batch_norm(self.model)
        self._freeze_unused()
        if grad_checkpointing:
            _checkpoint_activations(self.model, arch)
        if checkpoint is not None:
            self.load(checkpoint)

    @staticmethod
    def takes_any_size(config: Mapping[str, Any]) -> bool:
        """Whether the model of a config encodes images of any size; used by the checks of configs.

        timm says of many models with rotary or convolutional positions that their size is fixed, though they take any,
        so such a model is run on the meta device.

        Args:
            config: Arguments of this class.
        """
        known = timm.models.get_pretrained_cfg(config.get("arch", ""), allow_unregistered=True)
        return known is None or not known.fixed_input_size or _takes_a_larger_size(config)

    @cached_property
    def embed_dim(self) -> int:
        """Width of ``cls``."""
        return self._shapes(self.img_size).cls.shape[-1]

    @cached_property
    def patch_dim(self) -> int:
        """Width of ``patches``: that of ``cls`` for the last map or tokens, and the sum of those of ``levels``."""
        return self._shapes(self.img_size).patches.shape[-1]

    @property
    def grid(self) -> tuple[int, int]:
        """``(h, w)``: patches down and across of an image of ``img_size``."""
        return self.grid_for(self.img_size)

    def grid_for(self, img_size: int | tuple[int, int]) -> tuple[int, int]:
        """``(h, w)``: patches down and across of an image of ``img_size`` pixels, a side or height and width."""
        return self._shapes(img_size).grid

    def _shapes(self, img_size: int | tuple[int, int]) -> Features:
        return shapes_of(self, self._config, img_size)

    @property
    def _config(self) -> dict[str, Any]:
        return {**self.timm_args, "levels": self.feature_levels}

    def timm_state(self) -> dict[str, Tensor]:
        """The weights under timm's names; ``timm.create_model(**timm_args, num_classes=0)`` loads them strictly."""
        return self.model.state_dict()

    def init_weights(self) -> None:
        """Nothing to do: the constructor has initialised or loaded. MMEngine would otherwise ask timm to start over."""

    def load(self, checkpoint: str | Path) -> None:
        """Load weights with timm's names, or Meta's for DINOv3.

        Position embeddings learnt on another square grid are resampled as timm does it.

        Raises:
            CheckpointError: The file cannot be read, or holds another model.
        """
        own = self.model.state_dict()
        state = take_named_like(own, read_state_dict(checkpoint))
        classifier = self.model.default_cfg.get("classifier") or ()
        prefixes = tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier))
        state = {key: value for key, value in state.items() if key in own or not key.startswith(prefixes)}
        load_strictly(self.model, self.fit_positions(state), checkpoint)

    def fit_positions(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Resample the position embedding of a file to the model's grid, if only its number of patches differs."""
        return _fit_positions(self.model, state)

    def forward(self, images: Tensor, masks: Tensor | None = None) -> Features:
        """Encode images.

        Args:
            images: ``(B, 3, H, W)``, normalised.
            masks: ``(B, h * w)`` bool, of patches that divide the images evenly; the pixels of True patches get one
                colour.

        Raises:
            ValueError: The model takes no masks, or what it returns cannot be read; the message says what to write.
            DataError: The masks have another grid than the features.
        """
        if masks is not None:
            features = self(self._painted(images, masks))
            check_masks(masks, features)
            return features
        if not self.feature_levels:
            return self._last_features(images, self.model.forward_features(images))
        output, maps = self.model.forward_intermediates(
            images, indices=list(self.feature_levels), norm=self._level_norm, output_fmt="NCHW"
        )
        return features_of_map(join_levels(maps), self._pooled(output))

    def clean_and_masked(self, images: Tensor, masks: Tensor) -> tuple[Features, Features]:
        """Encode images, and the first of them a second time with patches masked.

        It is one pass, unless the model has batch norm: in training, masked images then have a separate pass, so
        that clean images are normalised by clean ones, and running statistics, with which the exported student runs,
        are theirs.

        Args:
            images: ``(B, 3, H, W)``, normalised.
            masks: ``(M, h * w)`` bool, for the first ``M`` images; as for :meth:`forward`.

        Returns:
            Features of the ``B`` clean images and of the ``M`` masked ones.
        """
        batch, masked = len(images), len(masks)
        if self._has_batch_norm and self.training:
            clean = self(images)
            with frozen_statistics(self.model):
                return clean, self(images[:masked], masks)
        both = self(torch.cat([images, self._painted(images[:masked], masks)]))
        check_masks(masks, both)
        return both[:batch], both[batch:]

    def encode_with_hidden_states(
        self, images: Tensor, masks: Tensor | None = None
    ) -> tuple[Features, Features | None, tuple[Features, ...]]:
        """Encode images as :meth:`forward` or :meth:`clean_and_masked`, and keep the residual stream.

        Args:
            images: ``(B, 3, H, W)``, normalised.
            masks: ``(M, h * w)`` bool, for the first ``M`` images, as for :meth:`forward`; None for clean images only.

        Returns:
            Features of the clean images and, with masks, of the masked ones; and for each block the residual stream
            after it of the clean images, without the final norm. Their ``cls`` is always the cls token.

        Raises:
            ValueError: The model has no hidden states, or takes no masks; the message says what to write.
            DataError: The masks have another grid than the features.
        """
        if self.no_hidden_states:
            raise ValueError(f"hidden states were asked for, and {self.no_hidden_states}")
        if masks is None:
            return self._last_and_hidden(images, len(images), None)
        batch, masked = len(images), len(masks)
        if self._has_batch_norm and self.training:
            clean, _, hidden = self._last_and_hidden(images, batch, None)
            with frozen_statistics(self.model):
                return clean, self(images[:masked], masks), hidden
        return self._last_and_hidden(torch.cat([images, self._painted(images[:masked], masks)]), batch, masks)

    def _last_and_hidden(
        self, images: Tensor, clean: int, masks: Tensor | None
    ) -> tuple[Features, Features | None, tuple[Features, ...]]:
        """Encode ``clean`` images, and behind them those that are painted by ``masks``, in one pass."""
        output, blocks = self.model.forward_intermediates(
            images, norm=False, output_fmt="NLC", return_prefix_tokens=True
        )
        both = self._last_features(images, output)
        hidden = tuple(Features(prefix[:clean, 0], patches[:clean], both.grid) for patches, prefix in blocks)
        if masks is None:
            return both, None, hidden
        check_masks(masks, both)
        return both[:clean], both[clean:], hidden

    @cached_property
    def no_hidden_states(self) -> str:
        """Why the model has no hidden states, and what to do about it; empty if it has them."""
        arch = self.timm_args["model_name"]
        if self.feature_levels:
            return f"timm's {arch} with levels={list(self.feature_levels)} has none: write levels=None"
        if not keeps_one_sequence(self.model):
            return (
                f"timm's {arch} has none, as its blocks do not all pass on the same tokens, a cls token among them: "
                "take a type='ViT' or a DINOv3"
            )
        return ""

    def _takes_level_norm(self) -> bool:
        """Whether timm's model can apply its final norm to intermediate maps, as most do (not Hiera)."""
        self._level_norm = True
        try:
            if self.feature_levels:
                self._shapes(self.img_size)
        except AssertionError:
            return False
        return True

    def _freeze_unused(self) -> None:
        """Freeze the head of a classifier where ``cls`` is taken before it: data parallelism waits for gradients."""
        head = getattr(self.model, "head_hidden_size", None)
        names = {name.split(".")[0] for name, _ in self.model.named_parameters()}
        widened = head is not None and head != self.model.num_features
        if widened or (self._normed_cls and names & {"attn_pool", "fc_norm", "head"}):
            unused = unused_parameters(self, self._config, self.img_size)
            unused = [name for name in unused if name.startswith("model.")]  # the learnt colour is for masked images
            for name in unused:
                self.get_parameter(name).requires_grad_(False)
            self._head_widens = widened and bool(unused)

    @property
    def _normed_cls(self) -> bool:
        has_cls = getattr(self.model, "cls_token", None) is not None
        return has_cls and not isinstance(getattr(self.model, "norm", None), nn.Identity)

    def _painted(self, images: Tensor, masks: Tensor) -> Tensor:
        if self.mask_colour is None:
            arch = self.timm_args["model_name"]
            raise ValueError(f"masks were given to timm's {arch} built without mask_colour: write mask_colour='mean'")
        return paint_masked(images, masks, self.learnt_colour)

    def _last_features(self, images: Tensor, output: Any) -> Features:
        arch = self.timm_args["model_name"]
        if not isinstance(output, Tensor) or output.ndim not in (3, 4):
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise NoPatchesError(f"timm's {arch} gives {found}: neither a map nor tokens")
        if output.ndim == 4:
            return features_of_map(self._channels_first(output), self._pooled(output))
        patches = output[:, getattr(self.model, "num_prefix_tokens", 0) :]
        if patches.shape[1] == 1 and min(images.shape[-2:]) >= 2 * self.model.feature_info[-1]["reduction"]:
            raise NoPatchesError(f"timm's {arch} gives its cls token and no patches")
        try:
            grid = grid_of_tokens(patches.shape[1], images)
        except ValueError as error:
            raise NoPatchesError(f"timm's {arch}: {error}") from error
        return Features(self._pooled(output), patches, grid)

    def _pooled(self, output: Any) -> Tensor:
        """``cls`` of what ``forward_features`` returns."""
        if isinstance(output, Tensor) and output.ndim == 4:
            last = self._channels_first(output)
            pooled = None if self._head_widens else self.model.forward_head(output, pre_logits=True)
            # Some heads widen after pooling (MobileNetV3); their output is no longer in the map's space.
            return pooled if pooled is not None and pooled.shape == last.shape[:2] else last.mean(dim=(2, 3))
        if isinstance(output, Tensor) and self._normed_cls:
            return output[:, 0]
        return self.model.forward_head(output, pre_logits=True)

    def _channels_first(self, output: Tensor) -> Tensor:
        return output.permute(0, 3, 1, 2) if getattr(self.model, "output_fmt", "NCHW") == "NHWC" else output


def _fit_positions(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    given, own = state.get("pos_embed"), getattr(model, "pos_embed", None)
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if given is None or own is None or grid is None or given.ndim != 3 or own.ndim != 3 or given.shape == own.shape:
        return state
    prefix = own.shape[1] - math.prod(grid)
    side = math.isqrt(max(given.shape[1] - prefix, 0))
    if given.shape[2] != own.shape[2] or prefix < 0 or side**2 + prefix != given.shape[1] or not side:
        return state
    return {**state, "pos_embed": resample_abs_pos_embed(given, list(grid), [side, side], num_prefix_tokens=prefix)}


# Arguments of TimmBackbone and DenseTimm that do not change which sizes a model takes.
_OF_NO_SIZE = ("type", "checkpoint", "grad_checkpointing", "out_indices", "final_norm", "frozen")
_TAKES_LARGER: dict[str, bool] = {}


def _takes_a_larger_size(config: Mapping[str, Any]) -> bool:
    """Whether a model encodes images that are one patch larger than its own; False if it cannot be built."""
    options = {key: value for key, value in config.items() if key not in _OF_NO_SIZE}
    key = json.dumps(options, sort_keys=True, default=repr)
    if key not in _TAKES_LARGER:
        try:
            with torch.device("meta"):
                backbone = TimmBackbone(**options)
            backbone.grid_for(backbone.img_size + backbone.img_size // backbone.grid[0])
        except (TypeError, ValueError, AssertionError, RuntimeError):
            _TAKES_LARGER[key] = False
        else:
            _TAKES_LARGER[key] = True
    return _TAKES_LARGER[key]


def _create(options: dict[str, Any]) -> nn.Module:
    try:
        return timm.create_model(num_classes=0, **options)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
    del options["img_size"]  # most CNNs take images of any size, and no such argument
    return timm.create_model(num_classes=0, **options)


def _checkpoint_activations(model: Any, arch: str) -> None:
    try:
        model.set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:
        raise ValueError(
            f"timm's {arch} cannot checkpoint its activations ({error}): write grad_checkpointing=False, and for less "
            "memory model.micro_batches=2"
        ) from error
