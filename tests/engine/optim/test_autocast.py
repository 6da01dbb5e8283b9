import pytest
import torch

from proteus.engine import AutocastOptimWrapper
from proteus.models import Distiller


@pytest.fixture
def distiller() -> Distiller:
    torch.manual_seed(0)
    vit = {"type": "ViT", "arch": "tiny", "img_size": 56, "depth": 2, "num_heads": 3}
    return Distiller(
        teacher={"type": "Teacher", "backbone": {**vit, "embed_dim": 48}},
        student={**vit, "embed_dim": 24, "mask_token": True},
        objectives={name: {"type": f"{name.title()}Objective"} for name in ("token", "feature", "patch")},
    )


def wrapped(model: torch.nn.Module, dtype: str) -> AutocastOptimWrapper:
    return AutocastOptimWrapper(dtype, optimizer=torch.optim.AdamW(model.parameters()))


def losses(model: Distiller, dtype: str) -> tuple[dict[str, torch.Tensor], set[torch.dtype]]:
    """The losses, and the dtypes that the student's linear layers gave."""
    seen: set[torch.dtype] = set()
    hook = model.student.vit.blocks[0].attn.qkv.register_forward_hook(lambda *args: seen.add(args[-1].dtype))
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(2, 16, generator=generator) < 0.5
    with wrapped(model, dtype).optim_context(model):
        found = model(
            torch.randn(4, 3, 56, 56, generator=generator),
            masks=masks,
            mask_indices=masks.flatten().nonzero()[:, 0],
            mode="loss",
        )
    hook.remove()
    return found, seen


def test_bfloat16_inside_float32_outside(distiller: Distiller) -> None:
    low, seen = losses(distiller, "bfloat16")
    assert seen == {torch.bfloat16}
    full, seen = losses(distiller, "float32")
    assert seen == {torch.float32}
    for name, value in full.items():
        assert low[name].dtype == torch.float32
        assert low[name] != value
        torch.testing.assert_close(low[name], value, rtol=0.01, atol=0)


def test_a_step(distiller: Distiller) -> None:
    found, _ = losses(distiller, "bfloat16")
    before = distiller.student.vit.pos_embed.clone()
    wrapped(distiller, "bfloat16").update_params(sum(found.values()))
    assert {parameter.dtype for parameter in distiller.parameters()} == {torch.float32}
    assert not torch.equal(before, distiller.student.vit.pos_embed)


@pytest.mark.parametrize("clip", [None, {"max_norm": 1e9}])
def test_the_norm_of_gradients_is_measured_when_asked_and_changes_no_weight(clip: dict[str, float] | None) -> None:
    def steps(measured: bool) -> tuple[torch.Tensor, list[float]]:
        torch.manual_seed(0)
        model, found = torch.nn.Linear(3, 2), []
        wrapper = AutocastOptimWrapper(optimizer=torch.optim.AdamW(model.parameters(), lr=0.1), clip_grad=clip)
        wrapper.norms = {} if measured else None
        for step in range(3):
            wrapper.measures_norm = step == 1
            model(torch.ones(4, 3)).square().sum().backward()
            expected = torch.cat([each.grad.flatten() for each in model.parameters()]).norm()
            wrapper.step()
            wrapper.zero_grad()
            if wrapper.norms:
                torch.testing.assert_close(wrapper.norms.pop("grad_norm"), expected)
                found.append(step)
        return model.weight.detach(), found

    weights, found = steps(measured=True)
    assert found == ([1] if clip is None else [0, 1, 2])
    if clip is None:
        assert torch.equal(weights, steps(measured=False)[0])


def test_auto_is_float32_on_a_cpu(distiller: Distiller) -> None:
    assert losses(distiller, "auto")[1] == {torch.float32}


def test_float16_needs_another_wrapper(distiller: Distiller) -> None:
    with pytest.raises(ValueError, match=r"optim_wrapper\.dtype='float16'.*AmpOptimWrapper"):
        wrapped(distiller, "float16")
