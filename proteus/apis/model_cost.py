"""Parameters, FLOPs and memory of a training step, counted on the meta device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from proteus.compat import storage_key
from proteus.config.check_consistency import trained_size
from proteus.models import Distiller, LinearProbe, MultiTeacherDistiller
from proteus.models.flops import step_flops
from proteus.utils.meta_run import Known, MetaRun

GIB = 1024**3
# Activation memory of bfloat16 autocast relative to float32; the residual stream and the inputs of norms stay float32.
# Measured with saved_tensors_hooks on a CPU for a ViT-S/14 student at 224 px with fused attention, heads and losses:
# 71.6 of 125.7 MiB per image (tests/apis/test_model_cost.py repeats it for a small model).
BFLOAT16_SHARE = 0.57
# Image size in pixels if neither the pipeline nor the model has one.
_DEFAULT_SIZE = 224
_SOFTMAX = (torch.ops.aten._softmax, torch.ops.aten._safe_softmax)


@dataclass(frozen=True)
class StepCost:
    """Cost of one distillation step; FLOPs are per image.

    Attributes:
        teacher_parameters: Parameters of the teacher, or of all.
        student_parameters: Parameters of the student backbone.
        trained_parameters: Parameters with a gradient: student and heads.
        copied_parameters: Trained parameters that autocast copies to low precision until the backward pass: weights of
            linear layers and convolutions (tests/apis/test_model_cost.py measures it on a CPU, to the byte).
        teacher_flops: Forward pass of the teacher, or of all.
        student_flops: Forward pass of the student.
        step_flops: Complete step: teacher, clean and masked student, heads, backward pass.
        activation_bytes: Activations that autograd keeps per image, in float32.
        teachers: Parameters and FLOPs of the forward pass of each teacher, by name.
    """

    teacher_parameters: int
    student_parameters: int
    trained_parameters: int
    copied_parameters: int
    teacher_flops: float
    student_flops: float
    step_flops: float
    activation_bytes: float
    teachers: Mapping[str, tuple[int, float]] = field(default_factory=dict)

    def memory(self, batch: int, low_precision: bool) -> float:
        """Return the peak bytes of one process: weights, gradients, two moments of AdamW, teacher, activations."""
        trained = 16 * self.trained_parameters + (2 * self.copied_parameters if low_precision else 0)
        teacher = (2 if low_precision else 4) * self.teacher_parameters
        activations = batch * self.activation_bytes * (BFLOAT16_SHARE if low_precision else 1.0)
        return trained + teacher + activations


def image_side(cfg: Config, backbone: Any) -> int:
    """Side in pixels of the images that a backbone gets in training."""
    return trained_size(cfg, backbone) or _DEFAULT_SIZE


def step_cost(model: Distiller | MultiTeacherDistiller, cfg: Config, size: tuple[int, int] | None = None) -> StepCost:
    """Count one step of a distiller.

    Args:
        model: A distiller of one student on the meta device.
        cfg: Its config. The batch is shortened, with the same share of masked images.
        size: Height and width of the images in pixels; by default those of the pipeline.
    """
    probability = cfg.train_dataloader.get("collate_fn", {}).get("probability", 0.5)
    count = min(cfg.train_dataloader.batch_size, 8)
    student = model.student
    side = image_side(cfg, student)
    images = torch.empty(count, 3, *(size or (side, side)), device="meta")
    labels = torch.empty(count, dtype=torch.long, device="meta") if model.needs_labels else None
    known: Known = {}
    teachers = {}
    for name, teacher in model.teachers_by_name.items():
        with MetaRun(known) as run:
            teacher(images)
        teachers[name] = (_count(teacher), run.flops / count)
    with MetaRun(known) as run, torch.no_grad():
        grid = student(images).grid
    student_flops = run.flops / count
    masks, indices = _half_masked(int(count * probability) if model.needs_masks else 0, grid)
    kept = _SavedBytes({storage_key(tensor) for tensor in [*model.parameters(), images]})
    inputs = {"inputs": images, "masks": masks, "mask_indices": indices, "labels": labels}
    flops = step_flops(model, inputs, kept.counting(), known)
    return StepCost(
        teacher_parameters=sum(parameters for parameters, _ in teachers.values()),
        student_parameters=_count(student),
        trained_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        copied_parameters=_copied(model),
        teacher_flops=sum(each for _, each in teachers.values()),
        student_flops=student_flops,
        step_flops=flops,
        activation_bytes=kept.bytes / count,
        teachers=teachers,
    )


@dataclass(frozen=True)
class ProbeCost:
    """Cost of one training step of a linear probe; FLOPs are per image.

    Attributes:
        backbone_parameters: Parameters of the frozen backbone.
        head_parameters: Parameters of all heads.
        heads: Number of heads.
        backbone_flops: Forward pass of the backbone.
        head_flops: Forward and backward pass of all heads.
    """

    backbone_parameters: int
    head_parameters: int
    heads: int
    backbone_flops: float
    head_flops: float

    @property
    def memory(self) -> float:
        """Bytes of all weights, and of gradients and momentum of the heads, in float32."""
        return 4 * self.backbone_parameters + 12 * self.head_parameters


def probe_cost(model: LinearProbe, cfg: Config) -> ProbeCost:
    """Count one training step of a linear probe on the meta device."""
    size = image_side(cfg, model.backbone)
    with MetaRun() as run:
        tokens = model.tokens(torch.empty(1, 3, size, size, device="meta"))
    backbone_flops = run.flops
    with MetaRun() as run:
        model.losses(tokens, torch.empty(1, dtype=torch.long, device="meta"))["loss_heads"].backward()
    return ProbeCost(
        backbone_parameters=_count(model.backbone),
        head_parameters=_count(model.heads),
        heads=len(model.heads_of_grid),
        backbone_flops=backbone_flops,
        head_flops=run.flops,
    )


def _half_masked(images: int, grid: tuple[int, int]) -> tuple[Tensor | None, Tensor | None]:
    if images == 0:
        return None, None
    patches = grid[0] * grid[1]
    masks = torch.empty(images, patches, dtype=torch.bool, device="meta")
    return masks, torch.empty(images * (patches // 2), dtype=torch.long, device="meta")


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _copied(model: nn.Module) -> int:
    layers = (module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d)))
    return sum(layer.weight.numel() for layer in layers if layer.weight.requires_grad)


class _SavedBytes:
    """Bytes that autograd saves, each storage once, without attention maps, which fused kernels do not keep."""

    def __init__(self, known: set[int]) -> None:
        self.known = known
        self.alive: list[Tensor] = []
        self.bytes = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is saved for the backward pass in this context."""
        hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)
        with hooks, _FusedAttention(self.known, self.alive):
            yield

    def _pack(self, tensor: Tensor) -> Tensor:
        if storage_key(tensor) not in self.known:
            self.known.add(storage_key(tensor))
            self.alive.append(tensor)
            self.bytes += tensor.untyped_storage().nbytes()
        return tensor


class _FusedAttention(TorchFunctionMode):
    """Leave out attention maps, where ``scaled_dot_product_attention`` makes them step by step on the meta device.

    By shape, square feature maps look the same.

    Args:
        known: Storages that are not counted.
        alive: Where to keep the maps, since a later storage could have the key of one that is gone.
    """

    def __init__(self, known: set[int], alive: list[Tensor]) -> None:
        super().__init__()
        self.known, self.alive = known, alive

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function."""
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        with _AttentionMaps(self.known, self.alive):
            out = func(*args, **(kwargs or {}))
        # The product of map and values, which the next layer saves.
        self.known.discard(storage_key(out))
        return out


class _AttentionMaps(TorchDispatchMode):
    """Note what a softmax returns, and all that is computed from it, such as by dropout."""

    def __init__(self, known: set[int], alive: list[Tensor]) -> None:
        super().__init__()
        self.known, self.alive = known, alive
        self.maps: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator."""
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in _SOFTMAX or not self.maps.isdisjoint(map(storage_key, _tensors((args, kwargs)))):
            self.alive += _tensors(out)
            self.maps.update(map(storage_key, _tensors(out)))
            self.known |= self.maps
        return out


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]
