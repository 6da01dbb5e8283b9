import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm import create_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from proteus.compat import storage_key
from proteus.utils.meta_run import MetaRun


def layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.storage_offset(), tensor.dtype, tensor.untyped_storage().nbytes()


class Recomputed(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, images: Tensor) -> Tensor:
        for block in self.blocks:
            images = checkpoint(block, images, use_reentrant=False)
        return F.interpolate(images, size=(7, 9), mode="bicubic")


def vit() -> nn.Module:
    return create_model("vit_tiny_patch16_224", depth=3, img_size=32, dynamic_img_size=True, drop_path_rate=0.1)


def cnn() -> nn.Module:
    return create_model("regnety_002")


def recomputed() -> nn.Module:
    block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Dropout(0.5))
    return Recomputed(block, copy.deepcopy(block), copy.deepcopy(block))


def trained(model: nn.Module, images: Tensor) -> list[Tensor]:
    """What a training step returns and leaves in gradients, with what autograd saves on the way."""
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model(images)
    out.sum().backward()
    return [out, *(p.grad for p in model.parameters() if p.grad is not None), *saved]


def evaluated(model: nn.Module, images: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [model.eval()(images)]


def inferred(model: nn.Module, images: Tensor) -> list[Tensor]:
    with torch.inference_mode():
        return [model.eval()(images)]


@pytest.mark.parametrize("run", [trained, evaluated, inferred])
@pytest.mark.parametrize("build", [vit, cnn, recomputed])
def test_it_counts_and_returns_what_torch_does(
    build: Callable[[], nn.Module], run: Callable[[nn.Module, Tensor], list[Tensor]]
) -> None:
    with torch.device("meta"):
        model, images = build(), torch.empty(2, 3, 48, 64)
        other = copy.deepcopy(model)
        with FlopCounterMode(display=False) as counter:
            expected = run(model, images)
        with MetaRun() as quick:
            found = run(other, images)
    assert quick.flops == counter.get_total_flops() > 0
    assert list(map(layout, found)) == list(map(layout, expected))
    # As many memory blocks, shared by the same tensors.
    numbers: list[dict[int, int]] = [{}, {}]
    assert [numbers[0].setdefault(storage_key(each), len(numbers[0])) for each in found] == [
        numbers[1].setdefault(storage_key(each), len(numbers[1])) for each in expected
    ]


def test_a_second_run_knows_the_results_of_the_first() -> None:
    known: Any = {}
    with torch.device("meta"):
        layer, images = nn.Linear(4, 5), torch.empty(3, 4)
        with MetaRun(known) as first:
            layer(images)
        size = len(known)
        with MetaRun(known) as second:
            layer(images)
    assert first.flops == second.flops == 2 * 3 * 4 * 5
    assert len(known) == size


def test_equal_numbers_of_other_types_are_other_arguments() -> None:
    with MetaRun():
        values = torch.empty(3, dtype=torch.int64, device="meta")
        assert [(values * factor).dtype for factor in (2, 2.0, 2)] == [torch.int64, torch.float32, torch.int64]


def test_shapes_that_change_in_place_are_seen() -> None:
    with MetaRun():
        for _ in range(2):
            tensor = torch.empty(2, 3, device="meta")
            other = torch.empty(4, device="meta")
            assert tensor.t_().shape == (3, 2)
            assert tensor.resize_(4).shape == (4,)
            assert storage_key(tensor.set_(other)) == storage_key(other)
            assert tensor.add_(1) is tensor
            assert storage_key(tensor[1:]) == storage_key(tensor)


def test_values_are_computed() -> None:
    with MetaRun() as run:
        ones = torch.ones(2, 3)
        for _ in range(2):
            assert (ones @ ones.T).tolist() == [[3, 3], [3, 3]]
            assert (ones * 2).add_(1).sum() == 18
    assert run.flops == 2 * 2 * (2 * 3 * 2)
