"""What a GPU would have to be waited for: values that the host reads, and shapes that depend on values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from proteus.engine import AutocastOptimWrapper
from proteus.models import Distiller, ViT

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "is_nonzero", "equal", "item"}


class Waits(TorchDispatchMode):
    """Keeps the names of operators that would wait for the device, and of all that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.all: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.all.add(name)
        indices = args[1] if name.startswith("index") and len(args) > 1 else ()
        by_mask = isinstance(indices, (list, tuple)) and any(i is not None and i.dtype == torch.bool for i in indices)
        if name in WAITS or by_mask:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_the_check_finds_them() -> None:
    values = torch.tensor([1.0, 2.0])
    for wait in (values.sum().item, values.nonzero, lambda: values[values > 1], lambda: bool(values[0] > 1)):
        with Waits() as waits:
            wait()
        assert waits.found


@pytest.mark.parametrize("options", [{}, {"grad_checkpointing": True}], ids=["plain", "checkpointing"])
def test_nothing_in_a_step_waits_for_the_device(
    distiller: Callable[..., Distiller], batch: dict[str, Any], options: dict[str, Any]
) -> None:
    model = distiller(student=options)
    data = model.data_preprocessor(batch, True)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    wrapper = AutocastOptimWrapper(optimizer=optimizer)
    with Waits() as waits:
        model.train_step(data, wrapper)
    assert not waits.found
    assert {"_fused_adamw_", "mse_loss_backward"} <= waits.all


def test_with_hidden_states_only_the_first_step_waits(
    distiller: Callable[..., Distiller], batch: dict[str, Any]
) -> None:
    model = distiller(hidden=dict(type="HiddenStatesObjective"))
    data = model.data_preprocessor(batch, True)
    model(**data, mode="loss")
    with Waits() as waits:
        model(**data, mode="loss")
    assert not waits.found


def test_positions_are_interpolated_when_weights_are_loaded_and_in_no_step(
    distiller: Callable[..., Distiller], batch: dict[str, Any], tmp_path: Path
) -> None:
    larger = dict(arch="tiny", img_size=84, depth=2, interpolate_offset=0.0)
    files = {}
    for part, width, heads in (("student", 24, 3), ("backbone", 32, 4)):
        files[part] = {"checkpoint": tmp_path / f"{part}.safetensors"}
        save_file(ViT(embed_dim=width, num_heads=heads, **larger).timm_state(), files[part]["checkpoint"])
    model = distiller(**files)
    data = model.data_preprocessor(batch, True)
    with Waits() as waits:
        model(**data, mode="loss")["loss_token"].backward()
    assert not {name for name in waits.all if name.startswith("upsample")}
    with Waits() as waits:
        model.student(torch.randn(1, 3, 84, 84))
    assert {name for name in waits.all if name.startswith("upsample")}
