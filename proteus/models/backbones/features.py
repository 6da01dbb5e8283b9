"""``Features`` out of what other people's networks return."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from proteus.structures import Features
from proteus.utils.meta_run import MetaRun


class NoPatchesError(ValueError):
    """A model gives no grid of patches unless it is built with ``levels``.

    Args:
        found: What it gives, for messages that name the key of the model.
    """

    def __init__(self, found: str) -> None:
        super().__init__(f"{found}; write levels=(-1,)")
        self.found = found


class AsTuple(nn.Module):
    """A backbone that returns ``(cls, patches)``, for ``torch.jit.trace`` and ONNX exporters that trace.

    They take tuples of tensors alone; ``torch.export`` takes :class:`~proteus.structures.Features` as they are.

    Args:
        backbone: Images -> ``Features``.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.train(backbone.training)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images ``(B, 3, H, W)``; returns ``(B, D)`` and ``(B, N, D)``."""
        features = self.backbone(images)
        return features.cls, features.patches


def sides_of(images: Tensor) -> tuple[int, int]:
    """Height and width of images or maps ``(..., H, W)``, as numbers where ``torch.jit`` traces them as tensors."""
    height, width = images.shape[-2:]
    return (int(height), int(width)) if torch.jit.is_tracing() else (height, width)


def features_of_map(feature_map: Tensor, pooled: Tensor | None = None) -> Features:
    """Turn a map ``(B, D, h, w)`` into features: ``cls`` is ``pooled`` ``(B, D)``, by default the map's mean."""
    cls = feature_map.mean(dim=(2, 3)) if pooled is None else pooled
    height, width = sides_of(feature_map)
    return Features(cls, feature_map.flatten(2).transpose(1, 2), (height, width))


def grid_of_tokens(count: int, images: Tensor) -> tuple[int, int]:
    """Find the grid of ``count`` square patches that cover images ``(B, 3, H, W)``.

    Raises:
        ValueError: No grid of the images' proportions has ``count`` patches.
    """
    height, width = sides_of(images)
    count = int(count) if torch.jit.is_tracing() else count
    across = max(1, round((count * width / height) ** 0.5))
    if count % across or abs(count // across * width - across * height) > max(height, width):
        raise ValueError(f"{count} patch tokens do not form a grid over images of {height}x{width} px")
    return count // across, across


def both_sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return height and width of a size that may be the side of a square."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def probe(backbone: nn.Module, img_size: int | tuple[int, int]) -> Features:
    """Run a backbone for shapes alone: on the meta device, with its weights left where they are.

    Args:
        backbone: Image -> ``Features``.
        img_size: Side of a square image in pixels, or height and width.

    Returns:
        ``Features`` of one image, without values.
    """
    with torch.no_grad():
        return run_on_meta(backbone, img_size, {name: value.to("meta") for name, value in backbone.named_parameters()})


def run_on_meta(backbone: nn.Module, img_size: int | tuple[int, int], parameters: Mapping[str, Tensor]) -> Features:
    """Run a backbone in evaluation mode on the meta device, with its weights left where they are.

    Args:
        backbone: Image -> ``Features``.
        img_size: Side of a square image in pixels, or height and width.
        parameters: What stands in the place of its parameters, by name and on the meta device.

    Returns:
        ``Features`` of one image, without values.
    """
    tensors = _by_module(backbone, parameters)
    dtype = next((value.dtype for value in tensors.values() if value.is_floating_point()), torch.float32)
    training = [module for module in backbone.modules() if module.training]
    backbone.eval()
    try:
        # A compiled backbone would be compiled for these shapes, too.
        with torch.compiler.set_stance("force_eager"), torch.device("meta"), MetaRun():
            return functional_call(
                backbone, tensors, (torch.empty(1, 3, *both_sides(img_size), dtype=dtype),), tie_weights=False
            )
    finally:
        for module in training:
            module.training = True


def _by_module(backbone: nn.Module, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return parameters and buffers for ``functional_call``, with one name for each place that holds one.

    By its own search for what is tied, it would swap those of a module that is registered under several names (CoaT)
    once for each name, and put the wrong ones back.
    """
    stand_ins = {id(value): parameters[name] for name, value in backbone.named_parameters()}
    found: dict[str, Tensor] = {}
    for path, module in backbone.named_modules():
        options: dict[str, Any] = {"prefix": path, "recurse": False, "remove_duplicate": False}
        found |= {name: stand_ins[id(value)] for name, value in module.named_parameters(**options)}
        found |= {name: value.to("meta") for name, value in module.named_buffers(**options)}
    return found


_SHAPES: dict[tuple[Any, ...], Features] = {}


def shapes_of(backbone: nn.Module, config: Mapping[str, Any], img_size: int | tuple[int, int]) -> Features:
    """Return what :func:`probe` returns, from an earlier call where one had the same classes, config and size.

    A run asks for the width and the grid of each of its backbones, builds some of them several times, and a probe takes
    a tenth of a second or more.

    Args:
        backbone: Image -> ``Features``.
        config: Values that the backbone was built from; with others than JSON has, each call probes.
        img_size: Side of a square image in pixels, or height and width.
    """
    try:
        values = json.dumps(config, sort_keys=True)
    except TypeError:
        return probe(backbone, img_size)
    key = (type(backbone), *map(type, backbone.children()), values, img_size)
    if key not in _SHAPES:
        _SHAPES[key] = probe(backbone, img_size)
    return _SHAPES[key]
