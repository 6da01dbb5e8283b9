"""Layer-wise learning-rate decay."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from mmengine.logging import MMLogger
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from proteus.compat import quiet_logger, timm_layer_numbers
from proteus.engine.optim.constructors import merge_groups
from proteus.engine.optim.muon import mark_groups, uses_muon
from proteus.models.backbones import TimmBackbone, ViT
from proteus.registry import OPTIM_WRAPPER_CONSTRUCTORS


class Layer(NamedTuple):
    """Layer of a parameter in a backbone.

    Attributes:
        backbone: The backbone's name within the model; empty if it is the model.
        number: 0 for the embeddings, then the blocks, counted from 1.
        last: Number of the layer after the blocks.
    """

    backbone: str
    number: int
    last: int


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """Scale the learning rate of a backbone's layer ``i`` by ``rate ** (last - i)``, and no other learning rates.

    Backbones are found anywhere in the model: ``backbone`` of models of mmpretrain or mmseg, ``student`` of a
    distiller. Layer 0 has the cls, register and mask tokens, the position and patch embeddings and the norm before the
    blocks; layer ``i + 1`` is block ``i``; ``last`` is the final norm; necks and heads are outside, as in BEiT, MAE and
    iBOT (docs/reproduction.md#ade20k). timm numbers the layers of :class:`~proteus.models.backbones.TimmBackbone`.

    ``paramwise_cfg`` takes ``layer_decay_rate`` in addition to MMEngine's keys, which also apply. They control weight
    decay: ``norm_decay_mult=0, bias_decay_mult=0, flat_decay_mult=0`` exempts vectors and biases, as released;
    ``custom_keys`` with ``pos_embed`` and ``cls_token`` exempts these too, as in DeiT.

    Groups with equal options are merged, and the log has a table of them.

    Raises:
        ValueError: The rate is missing or not in (0, 1], the optimizer has no ``lr``, ``num_layers`` differs from the
            model's, or no backbone with known layers was found.
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        rate = (self.paramwise_cfg or {}).get("layer_decay_rate")
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise ValueError(
                f"optim_wrapper.paramwise_cfg.layer_decay_rate={rate!r}: write a number above 0 and up to 1, such as "
                "0.75, or constructor='MergedGroupsConstructor' for a single learning rate"
            )
        if self.base_lr is None:
            raise ValueError("optim_wrapper.optimizer.lr is missing: layer decay scales it")

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, prefix: str = "", **options: Any) -> None:
        """Collect the groups of ``module`` and its children; at the root, scale and merge them.

        Args:
            params: Groups, extended in place.
            module: Module with the parameters.
            prefix: Its name; empty at the root.
            **options: MMEngine's other arguments.
        """
        if prefix:
            super().add_params(params, module, prefix=prefix, **options)
            return
        layers = layers_of(module)
        depths = sorted({layer.last - 1 for layer in layers.values()})
        if self.paramwise_cfg.get("num_layers", depths[0]) not in depths:
            raise ValueError(
                f"optim_wrapper.paramwise_cfg.num_layers={self.paramwise_cfg['num_layers']}, but the backbone has "
                f"{depths[0]}: remove the key"
            )
        with quiet_logger(logging.ERROR):
            super().add_params(params, module, prefix=prefix, **options)
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        base: Any = self.base_lr  # checked by _validate_cfg
        rows: dict[tuple[Any, ...], list[int]] = {}
        for group in params:
            (parameter,) = group["params"]
            layer = layers.get(names[id(parameter)])
            scale = self.scale(layer)
            group["lr"] = group.get("lr", base) * scale
            # MMEngine leaves its multipliers in the groups, which would prevent merging.
            group.pop("lr_mult", None)
            group.pop("decay_mult", None)
            where = f"{layer.backbone or 'model'} {layer.number}" if layer else "other"
            row = rows.setdefault((where, scale, group["lr"], group.get("weight_decay", self.base_wd)), [0, 0])
            row[0] += 1
            row[1] += parameter.numel()
        if uses_muon(self.optimizer_cfg):
            mark_groups(params, module)
        params[:] = merge_groups(params)
        frozen = sum(not parameter.requires_grad for parameter in module.parameters())
        MMLogger.get_current_instance().info(_table(rows, self.paramwise_cfg["layer_decay_rate"], frozen))

    def scale(self, layer: Layer | None) -> float:
        """Return the factor of a layer's learning rate; None stands for parameters outside backbones."""
        return self.paramwise_cfg["layer_decay_rate"] ** (layer.last - layer.number) if layer else 1.0


def layers_of(model: nn.Module) -> dict[str, Layer]:
    """Number the parameters of every backbone in a model.

    Returns:
        Layers by full parameter name, without parameters outside backbones.

    Raises:
        ValueError: No backbone with known layers was found.
    """
    layers: dict[str, Layer] = {}
    for path, part in model.named_modules():
        if isinstance(part, ViT):
            numbers, last = {name: _vit_layer(name, part.depth) for name, _ in part.named_parameters()}, part.depth + 1
        elif isinstance(part, TimmBackbone):
            numbers, last = _timm_layers(part)
        else:
            continue
        prefix = f"{path}." if path else ""
        layers.update({prefix + name: Layer(path, number, last) for name, number in numbers.items()})
    if not layers:
        raise ValueError(
            "optim_wrapper.constructor='LayerDecayConstructor': no backbone with known layers was found (ViT, "
            "DenseViT, TimmBackbone); write constructor='MergedGroupsConstructor'"
        )
    return layers


def _vit_layer(name: str, depth: int) -> int:
    steps = name.removeprefix("vit.").split(".")
    if steps[0] == "blocks":
        return int(steps[1]) + 1
    embedding = ("cls_token", "reg_token", "mask_token", "pos_embed", "patch_embed", "norm_pre")
    return 0 if steps[0] in embedding else depth + 1


def _timm_layers(backbone: TimmBackbone) -> tuple[dict[str, int], int]:
    if not hasattr(backbone.model, "group_matcher"):
        raise ValueError(
            f"timm does not define the layers of {backbone.timm_args['model_name']}: write "
            "optim_wrapper.constructor='MergedGroupsConstructor'"
        )
    numbers, last = timm_layer_numbers(backbone.model)
    return {f"model.{name}": number for name, number in numbers.items()}, last


def _table(rows: dict[tuple[Any, ...], list[int]], rate: float, frozen: int) -> str:
    lines = [f"layer-wise learning-rate decay, {rate} per layer (without {frozen} frozen tensors)"]
    lines.append(f"  {'layer':<24}{'scale':>10}{'lr':>12}{'weight decay':>14}{'tensors':>9}{'parameters':>13}")
    for (where, scale, lr, decay), (tensors, count) in rows.items():
        shown = "none" if decay is None else f"{decay:g}"
        lines.append(f"  {where:<24}{scale:>10.3g}{lr:>12.3e}{shown:>14}{tensors:>9}{count:>13,}")
    return "\n".join(lines)
