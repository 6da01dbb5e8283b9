"""A backbone that can be built again and again, from a weight file or with random weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from torch import Tensor

from proteus.checkpoints import export_backbone
from proteus.models.backbones.features import NoPatchesError
from proteus.models.backbones.openmmlab import build_backbone
from proteus.models.backbones.timm_backbone import TimmBackbone
from proteus.models.backbones.timm_names import check_arch, check_build, timm_config
from proteus.models.backbones.weight_file import read_weight_file
from proteus.structures import DataError
from proteus.utils.digest import weights_digest


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone that can be built again and again.

    Attributes:
        name: What the user called it.
        config: What :func:`~proteus.models.backbones.build_backbone` takes, weights included.
        mean: Channel means it was trained with, for images in [0, 1].
        std: Channel standard deviations, likewise.
        digest: Hexadecimal digest of its weights and its architecture: the same for the same features.
        note: What is not known for sure, for a report; empty if nothing is.
        seed: Of random weights; None where ``config`` names a file.
    """

    name: str
    config: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    note: str = ""
    seed: int | None = None

    def build(self) -> Any:
        """Build it, frozen and in eval mode; random weights are the same each time.

        Raises:
            DataError: It gives no patches, or does not take images of its size.
        """
        with torch.random.fork_rng(devices=[]):
            if self.seed is not None:
                torch.manual_seed(self.seed)
            backbone = build_backbone(self.config).requires_grad_(False).eval()
        check_patches(self.name, backbone)
        return backbone

    def config_with_weights(self, folder: Path) -> dict[str, Any]:
        """Its config for another process; random weights are written to a file in ``folder``."""
        if self.seed is None:
            return self.config
        path = folder / f"random-{self.digest[:16]}.safetensors"
        if not path.is_file():
            export_backbone(self.build().timm_state(), path, {"random": self.name})
        return {**self.config, "checkpoint": str(path)}


def check_patches(name: str, backbone: Any) -> None:
    """Check that a backbone of timm's takes images of its size and gives a grid of patches, before any are read.

    Args:
        name: What the user called it.
        backbone: The backbone.

    Raises:
        DataError: It does not.
    """
    if not isinstance(backbone, TimmBackbone):
        return
    try:
        backbone.grid_for(backbone.img_size)
    except NoPatchesError as error:
        raise DataError(
            f"{name}: {error.found}; write the name of another model, since only a config can ask for its maps "
            "(levels=(-1,))"
        ) from error
    except NotImplementedError:  # an operator that the meta device does not have
        return
    except (AssertionError, RuntimeError) as error:
        raise DataError(f"{name}: does not take images of {backbone.img_size} px; write another --img-size") from error


def locate_backbone(name: str, arch: str | None = None, img_size: int = 224) -> BackboneSpec:
    """Find out what builds the model in a weight file, or one with random weights.

    :func:`proteus.models.zoo.backbone_spec` takes the names of models and folders as well.

    Args:
        name: A weight file: our exported student, a training checkpoint, or any ViT's weights that
            ``checkpoint=`` takes, with ``#ema`` and the like behind it. Or ``random:NAME`` or ``random:NAME:SEED``, a
            model of timm's or of ours (``tiny``) without training.
        arch: timm name of the architecture of a weight file, if it cannot be detected (CNNs).
        img_size: Side of the images in pixels.

    Raises:
        CheckpointError: The file is missing or unreadable, or its architecture cannot be detected.
        DataError: The model does not exist.
    """
    if name.startswith("random:"):
        return _random(name, img_size)
    file = read_weight_file(name, arch, img_size)
    return make_spec(name, file.config, file.mean, file.std, file.note, state=file.state)


def _random(name: str, img_size: int) -> BackboneSpec:
    arch, _, seed = name.removeprefix("random:").partition(":")
    check_arch(name, arch)
    if seed and not seed.isdigit():
        raise DataError(f"{name}: the seed is {seed!r}, write a number: random:{arch}:0")
    config = {**timm_config(arch), "img_size": img_size}
    check_build(name, config)
    mean, std = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD) if "clip" in arch else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    return make_spec(name, config, mean, std, "random weights, not trained", seed=int(seed or 0))


def make_spec(
    name: str,
    config: dict[str, Any],
    mean: Sequence[float],
    std: Sequence[float],
    note: str = "",
    state: Mapping[str, Tensor] | None = None,
    seed: int | None = None,
) -> BackboneSpec:
    """Make a ``BackboneSpec`` with the digest of its weights ``state`` and architecture."""
    architecture = {key: value for key, value in config.items() if key not in ("checkpoint", "init_cfg")}
    digest = weights_digest(state or {}, json.dumps([architecture, seed], sort_keys=True))
    return BackboneSpec(name, config, tuple(mean), tuple(std), digest, note, seed)
