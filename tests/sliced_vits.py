"""Tiny teachers in which every part matters, students, and pictures, for tests of the sliced initialization."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from proteus.models import Teacher, TimmBackbone, ViT

LARGE = dict(type="ViT", arch="tiny", img_size=28, embed_dim=64, depth=4, num_heads=4, init_values=0.5)
SMALL = dict(arch="tiny", img_size=28, embed_dim=32, depth=4, num_heads=2, mask_token=True)
# ViT-g's MLP is gated; its number of hidden units must be even.
GATED = dict(arch="giant", embed_dim=48, num_heads=3)
PRE_NORM = dict(arch="clip-base", patch_size=14)
# Queries and values have a bias in the qkvb variants only; the MLPs of the plus ones are gated.
DINOV3, DINOV3_PLUS = "vit_small_patch16_dinov3", "vit_small_plus_patch16_dinov3"
ROTARY = dict(arch=f"{DINOV3}_qkvb", img_size=64, depth=2)
ROTARY_LARGE = dict(**ROTARY, embed_dim=64, num_heads=4)
ROTARY_SMALL = dict(**ROTARY, embed_dim=32, num_heads=2)


def images(count: int = 64, seed: int = 0, size: int | tuple[int, int] = 28) -> Tensor:
    """Smooth random pictures: of noise alone, a random ViT's cls token is the same for all."""
    coarse = torch.randn(count, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(2 * coarse, size=size, mode="bicubic")


def teacher(strong: bool = False, **options: Any) -> Teacher:
    """A ViT in which every part matters: gains, biases, LayerScales and weights of several sizes.

    Args:
        strong: Let the blocks write much more to the stream than the embedding does, as a trained model's do.
        options: Arguments of the ``ViT``, and statistics of the ``Teacher``.
    """
    given = {key: options.pop(key) for key in ("mean", "std", "input_mean", "input_std") if key in options}
    torch.manual_seed(0)
    made = Teacher(backbone={**LARGE, **options}, dtype="float32", **given)
    for name, parameter in made.backbone.named_parameters():
        noise = torch.randn_like(parameter)
        if strong:
            parameter.data.add_(noise * (0.25 if parameter.ndim == 2 else 0.1))
        else:
            parameter.data.add_(noise * (0.1 if parameter.ndim == 2 and "attn" in name else 0.05))
    return made


def student(**options: Any) -> ViT:
    """A ViT of half the width, with random weights."""
    return ViT(**{**SMALL, **options}).eval()


def rotary_teacher(**options: Any) -> Teacher:
    """A small DINOv3 in which every part matters, constants above all.

    Args:
        options: Arguments of the ``TimmBackbone``.
    """
    torch.manual_seed(0)
    made = Teacher(backbone={"type": "TimmBackbone", **ROTARY_LARGE, **options}, dtype="float32")
    for name, parameter in made.backbone.named_parameters():
        parameter.data.add_(torch.randn_like(parameter) * (0.3 if "bias" in name or "norm" in name else 0.1))
        if "gamma" in name:  # 1e-5 in a new model
            parameter.data.add_(0.5)
    return made


def rotary_student(**options: Any) -> TimmBackbone:
    """A DINOv3 of half the width, with random weights."""
    torch.manual_seed(1)
    return TimmBackbone(**{**ROTARY_SMALL, **options}).eval()


def residual(found: Tensor, wanted: Tensor) -> float:
    """What a linear map of ``found`` leaves of the variance of ``wanted``."""
    found, wanted = (tokens.flatten(0, -2).double() for tokens in (found, wanted))
    found, wanted = found - found.mean(0), wanted - wanted.mean(0)
    left = wanted - found @ torch.linalg.lstsq(found, wanted).solution
    return (left.square().sum() / wanted.square().sum()).item()


def share_of_units(found: Tensor, given: Tensor, basis: Tensor, units: range) -> float:
    """How many rows ``(h, d)`` of the student resemble those units most of the teacher's ``(H, D)``, in their order."""
    projected = F.normalize(given @ basis.T, dim=1)
    nearest = (F.normalize(found, dim=1) @ projected.T).argmax(1)
    return (nearest == torch.tensor(units)).float().mean().item()
