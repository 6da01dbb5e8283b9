"""Models leave for other runtimes: exported from a batch of two, run at others."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from depth_models import make_estimator
from torch import Tensor, nn
from torch.utils import _pytree

from proteus.models import DenseViT, TimmBackbone, ViT
from proteus.models.backbones import AsTuple, DenseTimm
from proteus.structures import Features

SIZES: dict[str, Any] = {"arch": "tiny", "embed_dim": 48, "depth": 1, "num_heads": 3}
DENSE: dict[str, Any] = {**SIZES, "depth": 2}
BATCHES = (1, 3, 5)


class Tensors(nn.Module):
    """MMEngine's models run with the arguments of a batch; exporters give tensors alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images, mode="tensor")


def segmentor() -> nn.Module:
    pytest.importorskip("mmseg")
    from mmseg.registry import MODELS

    import proteus.models  # noqa: F401

    head = {
        "type": "FCNHead",
        "in_channels": [48, 48],
        "in_index": [0, 1],
        "input_transform": "resize_concat",
        "channels": 96,
        "num_convs": 0,
        "concat_input": False,
        "dropout_ratio": 0.0,
        "num_classes": 5,
    }
    backbone = {"type": "proteus.DenseViT", "img_size": 28, "out_indices": (0, 1), **DENSE}
    config = {"type": "EncoderDecoder", "backbone": backbone, "decode_head": head, "test_cfg": {"mode": "whole"}}
    return Tensors(MODELS.build(config))


MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "ViT": (lambda: ViT(img_size=28, **SIZES), 28),
    "ViT at another size": (lambda: ViT(img_size=56, **SIZES), 28),
    "ViT with registers": (lambda: ViT(img_size=28, reg_tokens=2, **SIZES), 28),
    "DenseViT": (lambda: DenseViT((0, 1), img_size=28, **DENSE), 28),
    "DenseViT padded": (lambda: DenseViT((0, 1), img_size=28, **DENSE), 31),
    "TimmBackbone": (lambda: TimmBackbone("mobilenetv4_conv_small_050", img_size=64), 64),
    "DenseTimm": (lambda: DenseTimm("test_efficientnet", img_size=64), 64),
    "segmentor": (segmentor, 28),
    "depth": (lambda: Tensors(make_estimator()), 28),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> tuple[nn.Module, Callable[[int], Tensor]]:
    make, size = MODELS[request.param]
    torch.manual_seed(0)
    return make().eval().requires_grad_(False), lambda batch: torch.randn(batch, 3, size, size)


@pytest.fixture(scope="module")
def program(model: tuple[nn.Module, Callable[[int], Tensor]], _no_warnings: None) -> torch.export.ExportedProgram:
    module, images = model
    return torch.export.export(module, (images(2),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))


@pytest.fixture(autouse=True, scope="module")
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check(model: nn.Module, images: Callable[[int], Tensor], run: Callable[[Tensor], Any]) -> None:
    for batch in BATCHES:
        pixels = images(batch)
        found, wanted = _pytree.tree_leaves(run(pixels)), _pytree.tree_leaves(model(pixels))
        assert len(found) == len(wanted) > 0
        for one, other in zip(found, wanted, strict=True):
            assert one.shape[0] == batch
            largest = max(1.0, float(other.abs().max()))
            torch.testing.assert_close(torch.as_tensor(one), other, atol=1e-5 * largest, rtol=1e-5)


def traceable(model: nn.Module) -> nn.Module:
    return AsTuple(model) if isinstance(model(torch.zeros(1, 3, 56, 56)), Features) else model


def test_torch_export(model: tuple[nn.Module, Callable[[int], Tensor]], program: torch.export.ExportedProgram) -> None:
    check(*model, program.module())


def test_trace(model: tuple[nn.Module, Callable[[int], Tensor]]) -> None:
    module, images = model
    check(module, images, torch.jit.trace(traceable(module), images(2)))


@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx(model: tuple[nn.Module, Callable[[int], Tensor]], dynamo: bool, request: pytest.FixtureRequest) -> None:
    module, images = model
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript" if dynamo else "onnx")
    file = io.BytesIO()
    if dynamo:  # which would begin with the same torch.export
        torch.onnx.export(request.getfixturevalue("program"), (), file, dynamo=True, input_names=["images"])
    else:
        axes = {"images": {0: "batch"}}
        torch.onnx.export(
            traceable(module), (images(2),), file, dynamo=False, input_names=["images"], dynamic_axes=axes
        )
    settings = runtime.SessionOptions()
    settings.log_severity_level = 3
    session = runtime.InferenceSession(file.getvalue(), settings)
    check(module, images, lambda pixels: session.run(None, {"images": pixels.numpy()}))


def test_compiled_for_any_batch() -> None:
    module = ViT(img_size=28, **SIZES).eval().requires_grad_(False)
    compiled = torch.compile(module, dynamic=True, backend="eager", fullgraph=True)
    check(module, lambda batch: torch.randn(batch, 3, 28, 28), compiled)


def test_features_are_a_tree_of_tensors() -> None:
    features = Features(torch.zeros(2, 4), torch.zeros(2, 6, 4), (2, 3))
    moved = _pytree.tree_map(lambda tensor: tensor + 1, features)
    assert isinstance(moved, Features)
    assert moved.grid == (2, 3)
    assert moved.cls.eq(1).all()
    assert moved.patches.eq(1).all()
    leaves, spec = _pytree.tree_flatten(features)
    restored = _pytree.treespec_loads(_pytree.treespec_dumps(spec))
    assert _pytree.tree_unflatten(leaves, restored).grid == (2, 3)
