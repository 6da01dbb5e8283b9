"""Facts about a model: what builds it, what it was trained with, its licence, and where its weights come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelRecord:
    """A model that can be used by name.

    Attributes:
        name: Name that users write, such as ``dinov2_vitb14`` or ``timm/vit_base_patch14_dinov2.lvd142m``.
        architecture: Name in timm, or ``mmpretrain.NAME``.
        arguments: Arguments of the architecture.
        config: Config for :func:`~proteus.models.backbones.build_backbone`, without weights and image size.
        patch_size: Side of a patch in pixels; None for a CNN.
        img_size: Side in pixels of the images that it was trained with last.
        width: Width of its tokens.
        depth: Number of blocks; None for a CNN.
        params: Number of parameters without a classifier; None if unknown.
        mean: Channel means that images are normalised with, for images in [0, 1].
        std: Channel standard deviations, likewise.
        licence: Licence of the weights; empty if unknown.
        title: Name for people, such as ``DINOv2 ViT-B/14 (Meta)``.
        files: Names of the official weight files, looked for in ``checkpoints/``.
        url: Page that describes the weights.
        hub_id: Repository on the Hugging Face hub with timm's version of the weights; None if there is none.
        hub_file: Name of the weight file in that repository.
        weights: Path of weights that are always on disk, such as a file of a Python package; empty if there is none.
        seed: Seed of random weights; None for a trained model.
    """

    name: str
    architecture: str
    arguments: dict[str, Any]
    config: dict[str, Any] = field(repr=False)
    patch_size: int | None
    img_size: int
    width: int
    depth: int | None
    params: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str = ""
    title: str = ""
    files: tuple[str, ...] = ()
    url: str = ""
    hub_id: str | None = None
    hub_file: str = "model.safetensors"
    weights: str = ""
    seed: int | None = None
