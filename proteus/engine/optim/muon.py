"""Muon and NAdaMuon for matrices and kernels of hidden layers, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import timm.optim
import torch
from mmengine import registry as roots
from torch import nn

from proteus.models import AdaptedBackbone, TimmBackbone
from proteus.models.backbones.input_layers import input_layers
from proteus.models.objectives import Objective
from proteus.registry import OPTIMIZERS
from proteus.structures import UserError
from proteus.utils.precision import cpu_has_bfloat16, has_bfloat16

# Convolutions of no more channels read images.
_IMAGE_CHANNELS = 4
# Pixels of the images of a model that takes any.
_SIDE = 224
# Layers of which all two-dimensional parameters are multiplied by: also packed queries, keys and values.
_LAYERS = (nn.Linear, nn.MultiheadAttention, nn.RNNBase)


@OPTIMIZERS.register_module()
class Muon(timm.optim.Muon):
    """timm's Muon: momentum, orthogonalised by Newton-Schulz iterations, for matrices and kernels of hidden layers.

    With ``MergedGroupsConstructor``, which the recipes use, :func:`hidden_matrices` chooses these. Stem or patch
    embedding, depthwise and other grouped convolutions, tokens, embeddings and biases of positions, vectors and heads
    are updated by AdamW, at the same learning rate, schedule and weight decay: Muon's update is scaled to the size of
    AdamW's (``adjust_lr_fn``). ``paramwise_cfg`` exempts from weight decay as with AdamW. Without that constructor timm
    chooses by shape, patch embedding and heads included.

    The iterations run in bfloat16, as timm's, where the GPU or CPU multiplies matrices in it, and in float32 elsewhere.

    Sources: Keller Jordan et al., https://kellerjordan.github.io/posts/muon; scale of Liu et al.,
    https://arxiv.org/abs/2502.16982.

    Args:
        params: Parameters or groups.
        lr: Learning rate of both.
        weight_decay: Decoupled weight decay of both.
        momentum: Momentum of Muon.
        nesterov: Nesterov momentum in Muon, and NAdamW in place of AdamW.
        ns_steps: Newton-Schulz iterations.
        adjust_lr_fn: Scale of Muon's update: ``match_rms_adamw``, ``original`` or ``rms_to_rms``.
        betas: Coefficients of AdamW; AdaMuon reads the second.
        algo: ``muon`` or ``adamuon``, with a second moment of the orthogonalised update.
        eps: Added to denominators.
        adamw_lr_mult: Factor of the learning rate for what AdamW updates. Needs ``MergedGroupsConstructor``.
        fused: Not used: AdamW's kernel has no counterpart. The recipes set it, so that ``type`` alone can be changed.

    Raises:
        ValueError: A number is out of range, or ``adamw_lr_mult`` is given without the constructor.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        nesterov: bool = False,
        ns_steps: int = 5,
        adjust_lr_fn: str = "match_rms_adamw",
        betas: Sequence[float] = (0.9, 0.999),
        algo: str = "muon",
        eps: float = 1e-7,
        adamw_lr_mult: float = 1.0,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            nesterov=nesterov,
            ns_steps=ns_steps,
            adjust_lr_fn=adjust_lr_fn,
            betas=tuple(betas),
            algo=algo,
            eps=eps,
        )
        if adamw_lr_mult == 1.0:
            return
        # timm's fallback_lr_scale, which versions before 1.0.27 do not have.
        fallback = [group for group in self.param_groups if group.get("use_fallback")]
        if not fallback:
            raise ValueError(
                f"adamw_lr_mult={adamw_lr_mult}: no parameter group is marked for AdamW; write "
                "optim_wrapper.constructor='MergedGroupsConstructor', or remove adamw_lr_mult"
            )
        for group in fallback:
            group["lr"] = group["lr"] * adamw_lr_mult

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update the parameters."""
        with _newton_schulz_precision(self.param_groups[0]["params"][0].device):
            return super().step(closure)


@OPTIMIZERS.register_module()
class NAdaMuon(Muon):
    """timm's ``nadamuon``: AdaMuon with Nesterov momentum, and NAdamW for everything that is not a hidden matrix.

    Source of AdaMuon: https://arxiv.org/abs/2507.11005.

    Args:
        params: As for :class:`Muon`.
        lr: Likewise.
        weight_decay: Likewise.
        momentum: Likewise.
        ns_steps: Likewise.
        adjust_lr_fn: Likewise.
        betas: Likewise.
        eps: Likewise.
        adamw_lr_mult: Likewise.
        fused: Likewise.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        ns_steps: int = 5,
        adjust_lr_fn: str = "match_rms_adamw",
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-7,
        adamw_lr_mult: float = 1.0,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params, lr, weight_decay, momentum, True, ns_steps, adjust_lr_fn, betas, "adamuon", eps, adamw_lr_mult
        )


@contextmanager
def _newton_schulz_precision(device: torch.device) -> Iterator[None]:
    """Let timm's Newton-Schulz iterations run in float32 if the device only emulates bfloat16.

    timm has no option for it. On a CPU without AMX and AVX512-BF16 a step takes 20 times as long in bfloat16
    (``docs/objectives.md``).
    """
    emulated = {"cpu": not cpu_has_bfloat16(), "cuda": not has_bfloat16(device)}.get(device.type, False)
    if not emulated:
        yield
        return
    timms = timm.optim.muon.zeropower_via_newtonschulz
    timm.optim.muon.zeropower_via_newtonschulz = partial(timms, dtype=torch.float32)
    try:
        yield
    finally:
        timm.optim.muon.zeropower_via_newtonschulz = timms


def uses_muon(optimizer: dict[str, Any]) -> bool:
    """Whether the config of an optimizer names one of this module's."""
    found = optimizer.get("type")
    if isinstance(found, str):  # as MMEngine's constructor looks it up
        with roots.OPTIMIZERS.switch_scope_and_registry(None) as registry:
            found = registry.get(found)
    return isinstance(found, type) and issubclass(found, Muon)


def hidden_matrices(model: nn.Module) -> set[int]:
    """Return the ids of the parameters that Muon updates.

    They are matrices that a layer multiplies its input by, and the kernels of convolutions, which timm flattens to one
    row per output channel; but not the heads of objectives, layers of images (stem, patch embedding), and grouped
    convolutions, of which a row sees a part of the input. A table of which rows are looked up, such as that of relative
    positions, multiplies nothing.
    """
    heads = {id(each) for part in model.modules() if isinstance(part, Objective) for each in part.parameters()}
    matrices = {
        id(weight)
        for each in model.modules()
        if isinstance(each, _LAYERS)
        for weight in each.parameters(recurse=False)
        if weight.ndim == 2 and min(weight.shape) > 1
    }
    kernels = {
        id(each.weight)
        for each in model.modules()
        if isinstance(each, nn.Conv2d) and each.groups == 1 and each.in_channels > _IMAGE_CHANNELS
    }
    first = {
        id(layer.weight)
        for part in model.modules()
        if isinstance(part, (TimmBackbone, AdaptedBackbone))  # a ViT of ours embeds patches by a convolution
        for layer in input_layers(part, part.img_size or _SIDE)
    }
    return (matrices | kernels) - heads - first


def mark_groups(groups: Sequence[dict[str, Any]], model: nn.Module) -> None:
    """Set ``use_fallback``, by which timm's Muon chooses AdamW, in groups of one parameter each.

    Raises:
        UserError: The model has no matrix or kernel in a hidden layer.
    """
    matrices = hidden_matrices(model)
    if not matrices:
        raise UserError(
            "optim_wrapper.optimizer: Muon updates matrices and kernels of hidden layers, and this model has none; "
            "write type='AdamW'"
        )
    for group in groups:
        (parameter,) = group["params"]
        group["use_fallback"] = id(parameter) not in matrices
