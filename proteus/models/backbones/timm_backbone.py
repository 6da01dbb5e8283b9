"""Any other model of timm's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import timm
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from proteus.checkpoints import load_strictly, read_state_dict
from proteus.checkpoints.keys import take_named_like
from proteus.models.backbones.features import features_of_map, grid_of_tokens, shapes_of
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

    Weights are random as timm starts them unless ``checkpoint`` is given.

    Args:
        arch: Name of the model in timm.
        img_size: Side in pixels of the images; a model of fixed size is built for it.
        checkpoint: File with the state dict of this model of timm's; a classifier in it is left.
        grad_checkpointing: Compute activations again in the backward pass instead of keeping them, as timm's model does
            it. Batch norm then averages its statistics twice a step.
        **options: What else ``timm.create_model`` takes: ``drop_path_rate``, ``dynamic_img_size``...

    Attributes:
        timm_args: What ``timm.create_model`` takes to build the same architecture.

    Raises:
        ValueError: ``arch`` is unknown or cannot checkpoint its activations, or what it returns is neither a map nor
            tokens.
        CheckpointError: ``checkpoint`` cannot be read or holds another model.
    """

    model: Any

    def __init__(
        self,
        arch: str,
        img_size: int = 224,
        checkpoint: str | Path | None = None,
        grad_checkpointing: bool = False,
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
        if grad_checkpointing:
            _checkpoint_activations(self.model, arch)
        if checkpoint is not None:
            self.load(checkpoint)

    @staticmethod
    def takes_any_size(config: Mapping[str, Any]) -> bool:
        """Whether the model of a config encodes images of any size; used by the checks of configs, builds nothing.

        Args:
            config: Arguments of this class.
        """
        known = timm.models.get_pretrained_cfg(config.get("arch", ""), allow_unregistered=True)
        return known is None or not known.fixed_input_size or bool(config.get("dynamic_img_size"))

    @cached_property
    def embed_dim(self) -> int:
        """Width of the tokens."""
        return shapes_of(self, self.timm_args, self.img_size).patches.shape[-1]

    @property
    def grid(self) -> tuple[int, int]:
        """``(h, w)``: patches down and across of an image of ``img_size``."""
        return self.grid_for(self.img_size)

    def grid_for(self, img_size: int | tuple[int, int]) -> tuple[int, int]:
        """``(h, w)``: patches down and across of an image of ``img_size`` pixels, a side or height and width."""
        return shapes_of(self, self.timm_args, img_size).grid

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
        load_strictly(self.model, _fit_positions(self.model, state), checkpoint)

    def forward(self, images: Tensor) -> Features:
        """Encode images ``(B, 3, H, W)``, normalised."""
        output = self.model.forward_features(images)
        if not isinstance(output, Tensor) or output.ndim not in (3, 4):
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"timm's {self.timm_args['model_name']} gives {found}: neither a map nor tokens")
        if output.ndim == 4:
            last = output.permute(0, 3, 1, 2) if getattr(self.model, "output_fmt", "NCHW") == "NHWC" else output
            pooled = self.model.forward_head(output, pre_logits=True)
            # Some heads widen after pooling (MobileNetV3); their output is no longer in the map's space.
            return features_of_map(last, pooled if pooled.shape == last.shape[:2] else None)
        prefix = getattr(self.model, "num_prefix_tokens", 0)
        has_cls = getattr(self.model, "cls_token", None) is not None
        normed = not isinstance(getattr(self.model, "norm", None), nn.Identity)
        cls = output[:, 0] if has_cls and normed else self.model.forward_head(output, pre_logits=True)
        patches = output[:, prefix:]
        return Features(cls, patches, grid_of_tokens(patches.shape[1], images))


def _fit_positions(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Resample the position embedding of a file to the model's grid, if only its number of patches differs."""
    given, own = state.get("pos_embed"), getattr(model, "pos_embed", None)
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if given is None or own is None or grid is None or given.ndim != 3 or own.ndim != 3 or given.shape == own.shape:
        return state
    prefix = own.shape[1] - math.prod(grid)
    side = math.isqrt(max(given.shape[1] - prefix, 0))
    if given.shape[2] != own.shape[2] or prefix < 0 or side**2 + prefix != given.shape[1] or not side:
        return state
    return {**state, "pos_embed": resample_abs_pos_embed(given, list(grid), [side, side], num_prefix_tokens=prefix)}


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
