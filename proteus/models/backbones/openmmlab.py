"""Backbones of other toolboxes."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from proteus.checkpoints import load_strictly, read_state_dict
from proteus.checkpoints.keys import take_named_like
from proteus.checkpoints.training import use_safe_checkpoints
from proteus.compat import quiet_init
from proteus.models.backbones.features import features_of_map, grid_of_tokens, shapes_of
from proteus.models.segmentor_widths import check_widths
from proteus.registry import MODELS
from proteus.structures import DataError, Features

_GUESTS = {"mmpretrain": "onedl-mmcv onedl-mmpretrain", "mmseg": "onedl-mmcv onedl-mmsegmentation"}


class AdaptedBackbone(nn.Module):
    """A backbone of mmpretrain's or another toolbox, made to return ``Features``.

    A map ``(B, D, h, w)`` gives its mean as ``cls``; tokens ``(B, P + N, D)`` give the first of the ``P`` prefix
    tokens, or the mean of all tokens without prefix tokens. Of several outputs the last is taken.

    Args:
        guest: The backbone.
        config: What it was built from.

    Attributes:
        img_size: Side in pixels of the images it is made for; None if it takes any, as CNNs do.
    """

    def __init__(self, guest: nn.Module, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.guest = guest
        self.config = dict(config)
        size = getattr(guest, "img_size", None)
        self.img_size: int | None = size[0] if isinstance(size, (tuple, list)) else size

    @cached_property
    def embed_dim(self) -> int:
        """Width of the tokens."""
        return shapes_of(self, self.config, self.img_size or 224).patches.shape[-1]

    def grid_for(self, img_size: int | tuple[int, int]) -> tuple[int, int]:
        """``(h, w)``: patches down and across of an image of ``img_size`` pixels, a side or height and width."""
        return shapes_of(self, self.config, img_size).grid

    def init_weights(self) -> None:
        """Nothing to do: :func:`build_backbone` has initialised or loaded."""

    def load(self, checkpoint: str | Path) -> None:
        """Load the guest's weights, under whatever prefix the file has them; heads in the file are left.

        Raises:
            CheckpointError: The file cannot be read, or holds another model.
        """
        state = take_named_like(self.guest.state_dict(), read_state_dict(checkpoint))
        load_strictly(self.guest, state, checkpoint)

    def forward(self, images: Tensor) -> Features:
        """Encode images ``(B, 3, H, W)``, normalised."""
        output = self.guest(images)
        while isinstance(output, (tuple, list)) and len(output):
            output = output[-1]
        if isinstance(output, Tensor) and output.ndim == 4:
            return features_of_map(output)
        if isinstance(output, Tensor) and output.ndim == 3:
            prefix = getattr(self.guest, "num_extra_tokens", 0)
            patches = output[:, prefix:]
            cls = output[:, 0] if prefix else patches.mean(dim=1)
            return Features(cls, patches, grid_of_tokens(patches.shape[1], images))
        found = f"a tensor {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        hint = "; set out_type='raw'" if hasattr(self.guest, "out_type") else ""
        raise ValueError(f"{self.config['type']} returns {found} and no patches, of which Features are made{hint}")


def build_backbone(config: Mapping[str, Any]) -> Any:
    """Build a backbone; one of another toolbox (``type='mmpretrain.ResNet'``) is adapted to return ``Features``.

    A guest starts from its own initialisation, or from the weights that its ``init_cfg=dict(type='Pretrained',
    checkpoint=...)`` names, which are read as safely and checked as strictly as our own.

    Raises:
        ImportError: The toolbox is not installed; the message names the package to install.
        CheckpointError: The weights cannot be read, or are another model's.
        ValueError: It returns no patches, or is a segmentor with heads of other widths than its backbone gives.
    """
    kind = config.get("type")
    scope = kind.split(".")[0] if isinstance(kind, str) and "." in kind else config.get("_scope_")
    if scope not in _GUESTS:
        return MODELS.build(dict(config))
    options = dict(config)
    pretrained = options.get("init_cfg")
    if not (isinstance(pretrained, Mapping) and pretrained.get("type") == "Pretrained"):
        pretrained = None
    else:
        del options["init_cfg"]
    device = torch.get_default_device()
    with torch.device("cpu"):  # some constructors read values out of tensors, which the meta device has none of
        guest = build_guest(options)
        try:
            check_widths(guest, "")
        except DataError as error:  # whoever builds this knows the key before it
            raise ValueError(f"{kind}: {error}") from error
        with quiet_init(guest):
            guest.init_weights()
    backbone = AdaptedBackbone(guest, config).to(device)
    if pretrained is not None and pretrained.get("checkpoint"):
        backbone.load(pretrained["checkpoint"])
    shapes_of(backbone, backbone.config, backbone.img_size or 224)  # refuses what returns no patches
    return backbone


def build_guest(config: Mapping[str, Any]) -> Any:
    """Build another toolbox's backbone without initialising its weights.

    Raises:
        ImportError: The toolbox is not installed; the message names the package to install.
    """
    kind = config.get("type")
    scope = kind.split(".")[0] if isinstance(kind, str) and "." in kind else config.get("_scope_")
    import_toolbox(str(scope))
    # Weights that a nested part asks for (init_cfg) are read as data too.
    use_safe_checkpoints()
    # Its layers are looked up in its toolbox's scope, not in the default scope of the config.
    return MODELS.build({**config, "_scope_": scope})


def import_toolbox(scope: str) -> None:
    """Register what a toolbox has to offer.

    Raises:
        ImportError: It is not installed; the message names the package to install.
    """
    try:
        importlib.import_module(f"{scope}.registry")
    except ImportError as error:
        raise ImportError(f"{scope} cannot be imported ({error}): pip install {_GUESTS[scope]}") from error
