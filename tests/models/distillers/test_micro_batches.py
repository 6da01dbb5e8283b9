from collections.abc import Callable
from typing import Any

import pytest
import torch
from data_samples import data_samples
from mmengine.optim import OptimWrapper
from torch import Tensor

from proteus.models import Distiller

Build = Callable[..., Distiller]


class Kept(OptimWrapper):
    """An optimizer that leaves the weights, and keeps the gradients of each update."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(torch.optim.SGD(model.parameters(), lr=0.0))
        self.named = dict(model.named_parameters())
        self.updates: list[dict[str, Tensor]] = []

    def step(self, **kwargs: Any) -> None:
        self.updates.append({name: p.grad.clone() for name, p in self.named.items() if p.grad is not None})


def batch(per_image: tuple[int, ...]) -> dict[str, Any]:
    """Eight images, the first of them masked, with other numbers of patches each."""
    generator = torch.Generator().manual_seed(1)
    masks = torch.zeros(len(per_image), 16, dtype=torch.bool)
    for mask, count in zip(masks, per_image, strict=True):
        mask[torch.randperm(16, generator=generator)[:count]] = True
    return {
        "inputs": torch.rand(8, 3, 56, 56, generator=generator),
        "masks": masks,
        "mask_indices": masks.flatten().nonzero().squeeze(1),
        "data_samples": data_samples(*({"img_path": f"{i}.jpg"} for i in range(8))),
    }


def trained(build: Build, parts: int, data: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Logged losses and gradients of one step."""
    model = build()
    model.micro_batches = parts
    model.student.mask_token.data.normal_(generator=torch.Generator().manual_seed(0))
    wrapper = Kept(model)
    logged = model.train_step(data, wrapper)
    (update,) = wrapper.updates
    assert all(p.grad is None for p in model.parameters())
    return logged, update


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("per_image", [(8, 8, 8, 8), (3, 11, 1, 16), (5, 0, 0, 2)], ids=["equal", "uneven", "none"])
def test_a_step_in_parts_is_the_step(distiller: Build, parts: int, per_image: tuple[int, ...]) -> None:
    data = batch(per_image)
    expected, gradients = trained(distiller, 1, data)
    found, found_gradients = trained(distiller, parts, data)
    assert found.keys() == expected.keys() == {"loss", "loss_token", "loss_feature", "loss_patch"}
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss.detach(), atol=1e-6, rtol=1e-6)
    assert found_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found_gradients[name], gradient, atol=1e-6, rtol=1e-4)


def test_the_teachers_tokens_are_split_along(distiller: Build) -> None:
    data = batch((3, 11, 1, 16))
    model = distiller()
    taught = model.run_teacher(model.data_preprocessor(data)["inputs"]).features
    given = {**data, "teacher_cls": taught.cls, "teacher_patches": taught.patches}
    expected, _ = trained(distiller, 1, data)
    found, _ = trained(distiller, 2, given)
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss.detach(), atol=1e-6, rtol=1e-6)


def test_what_cannot_be_divided_is_refused(distiller: Build) -> None:
    with pytest.raises(ValueError, match=r"micro_batches=3 does not divide the 8 images"):
        trained(distiller, 3, batch((8, 8)))
    with pytest.raises(ValueError, match=r"micro_batches=4 does not divide the 2 masked images"):
        trained(distiller, 4, batch((8, 8)))


@pytest.mark.parametrize("value", [0, -2, 1.5, True])
def test_the_number_is_a_whole_one(distiller: Build, value: Any) -> None:
    with pytest.raises(ValueError, match=r"model\.micro_batches=.*whole number"):
        Distiller(teacher={}, student={}, objectives={}, micro_batches=value)
