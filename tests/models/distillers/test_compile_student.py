import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from data_samples import data_samples

from proteus.compat import allow_recompiles
from proteus.models import Distiller

Build = Callable[..., Distiller]


def config(model: Distiller, **options: Any) -> Distiller:
    """The same model from a config with further keys."""
    vit = dict(type="ViT", arch="tiny", img_size=56, depth=2, interpolate_offset=0.0)
    made = Distiller(
        teacher=dict(type="Teacher", backbone={**vit, "embed_dim": 32, "num_heads": 4}),
        student={**vit, "embed_dim": 24, "num_heads": 3, "mask_token": True},
        objectives={
            "token": dict(type="TokenObjective"),
            "feature": dict(type="FeatureObjective", cls_term="token"),
            "patch": dict(type="PatchObjective"),
        },
        **options,
    )
    made.load_state_dict(model.state_dict())
    made.teacher.load_state_dict(model.teacher.state_dict())
    return made


def test_the_step_is_compiled_once_and_nothing_else(distiller: Build, batch: dict[str, Any]) -> None:
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    plain = distiller()
    model = config(plain, compile_student={"backend": backend, "fullgraph": True})
    assert model.state_dict().keys() == plain.state_dict().keys()
    data = model.data_preprocessor(batch, True)
    average = copy.deepcopy(model)
    for _ in range(2):
        expected, found = plain(**data, mode="loss"), model(**data, mode="loss")
        for name, term in expected.items():
            torch.testing.assert_close(found[name], term)
    assert len(graphs) == 1
    # Other sizes, without gradient, and of an average: validation, online evaluation, an export.
    for other in (model, average):
        with torch.no_grad():
            other.eval()(data["inputs"][:3], data_samples=data_samples({}) * 3, mode="predict")
            other(torch.randn(1, 3, 84, 84))
    assert len(graphs) == 1


def test_graphs_and_accumulated_gradients_do_not_share_memory(distiller: Build) -> None:
    with pytest.raises(ValueError, match=r"compile_student\.mode='reduce-overhead' .*max-autotune-no-cudagraphs"):
        config(distiller(), compile_student={"mode": "reduce-overhead"}, micro_batches=2)


def test_a_cnn_with_levels_and_masked_pixels_is_compiled_whole(distiller: Build) -> None:
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    found = []
    for options in ({}, {"compile_student": {"backend": backend, "fullgraph": True}}):
        torch.manual_seed(0)
        teacher = dict(type="ViT", arch="tiny", img_size=64, patch_size=16, depth=1, embed_dim=32, num_heads=4)
        model = Distiller(
            teacher=dict(type="Teacher", backbone=teacher),
            student=dict(type="TimmBackbone", arch="test_resnet", img_size=64, levels=(-2, -1), mask_colour="learnt"),
            objectives={"patch": dict(type="PatchObjective")},
            **options,  # type: ignore[arg-type]
        ).train()
        images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        masks = torch.arange(16)[None] % 2 == 0
        model(images, masks=masks, mode="loss")["loss_patch"].backward()
        buffers = {name: value for name, value in model.named_buffers() if "running" in name}
        found.append(({name: p.grad for name, p in model.named_parameters() if p.grad is not None}, buffers))
    assert len(graphs) == 1
    assert "student.learnt_colour" in found[0][0]
    for plain, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, plain)


@pytest.mark.slow
def test_inductors_gradients_are_the_plain_ones(distiller: Build, batch: dict[str, Any]) -> None:
    plain = distiller()
    model = config(plain, compile_student=True)
    found = {}
    for name, one in (("plain", plain), ("compiled", model)):
        sum(one(**one.data_preprocessor(batch, True), mode="loss").values()).backward()
        found[name] = {key: p.grad for key, p in one.named_parameters()}
    assert found["plain"].keys() == found["compiled"].keys()
    for key, gradient in found["plain"].items():
        torch.testing.assert_close(found["compiled"][key], gradient, atol=1e-5, rtol=1e-4)


@torch._dynamo.config.patch(recompile_limit=2)
def test_each_size_of_a_schedule_is_compiled_once(distiller: Build) -> None:
    sizes = [(28, 28), (28, 42), (28, 56), (42, 28), (28, 28), (28, 56)]
    allow_recompiles(len(set(sizes)))
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    plain = distiller().train()
    model = config(plain, compile_student={"backend": backend, "fullgraph": True}).train()
    for height, width in sizes:
        images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
        masks = torch.zeros(1, height * width // 14**2, dtype=torch.bool)
        masks[:, 1] = True
        inputs = dict(inputs=images, masks=masks, mask_indices=torch.tensor([1]))
        expected, found = plain(**inputs, mode="loss"), model(**inputs, mode="loss")
        for name, term in expected.items():
            torch.testing.assert_close(found[name], term)
        sum(found.values()).backward()
    assert len(graphs) == 4
    assert model.student.vit.pos_embed.grad.abs().sum() > 0
