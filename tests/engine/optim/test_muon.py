import copy
import io
import re
from typing import Any

import pytest
import timm
import torch
from data_samples import data_samples
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from proteus.apis import load_config
from proteus.engine import LayerDecayConstructor, MergedGroupsConstructor, Muon
from proteus.engine.optim.muon import hidden_matrices
from proteus.models import Distiller, TimmBackbone
from proteus.structures import UserError

SIZE = dict(type="ViT", arch="tiny", img_size=28, patch_size=14, depth=1, interpolate_offset=0.0)
KINDS = ["Muon", "NAdaMuon"]


def distiller(**options: Any) -> Distiller:
    torch.manual_seed(0)
    return Distiller(
        teacher=dict(type="Teacher", backbone=dict(**SIZE, embed_dim=32, num_heads=4)),
        student=dict(**SIZE, embed_dim=24, num_heads=3, mask_token=True),
        objectives=dict(feature=dict(type="FeatureObjective")),
        **options,
    )


def optimized(model: nn.Module, kind: str = "Muon", **paramwise: Any) -> OptimWrapper:
    cfg = load_config(
        "configs/proteus/vit-s_dinov2-b.py",
        {
            "optim_wrapper.optimizer.type": kind,  # as AdamW's lr, weight_decay, betas and fused stay
            "optim_wrapper.dtype": "float32",
        },
    )
    cfg.optim_wrapper.paramwise_cfg.update(paramwise)
    with DefaultScope.overwrite_default_scope("proteus"):
        return build_optim_wrapper(model, cfg.optim_wrapper)


def batch(step: int) -> dict[str, Any]:
    images = torch.rand(4, 3, 28, 28, generator=torch.Generator().manual_seed(step))
    return {"inputs": images, "data_samples": data_samples(*[{}] * 4)}


def test_a_matrix_moves_along_its_gradients_orthogonal_factor_and_a_vector_as_with_adamw() -> None:
    torch.manual_seed(0)
    matrix, vector = nn.Parameter(torch.randn(6, 8)), nn.Parameter(torch.randn(6))
    start, reference = matrix.detach().clone(), nn.Parameter(vector.detach().clone())
    groups: list[dict[str, Any]] = [
        {"params": [matrix], "use_fallback": False},
        {"params": [vector], "use_fallback": True, "weight_decay": 0.0},
    ]
    muon = Muon(groups, lr=0.1, weight_decay=0.5)
    adamw = torch.optim.AdamW([reference], lr=0.1, weight_decay=0.0, eps=1e-7)
    matrix.grad, vector.grad = torch.randn(6, 8), torch.randn(6)
    reference.grad = vector.grad.clone()
    muon.step()
    adamw.step()
    torch.testing.assert_close(vector, reference)
    # Decoupled weight decay, then 0.2 sqrt(8) times the orthogonal factor, of which Newton-Schulz is an approximation.
    update = (start * (1 - 0.1 * 0.5) - matrix.detach()) / (0.1 * 0.2 * 8**0.5)
    left, _, right = torch.linalg.svd(matrix.grad, full_matrices=False)
    along = left.T @ update @ right.T
    assert (along.diagonal() - 1).abs().max() < 0.1
    assert (along - along.diagonal().diag()).abs().max() < 0.05


def orthogonalized(gradient: torch.Tensor) -> torch.Tensor:
    """Run the five Newton-Schulz iterations of modded-nanogpt, with which timm's Muon approximates U V^T."""
    wide = gradient / gradient.norm()
    for a, b, c in (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide


def test_iterations_in_float32_where_the_cpu_only_emulates_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    gradient = torch.randn(32, 48)

    def update(optimizer: type[timm.optim.Muon]) -> torch.Tensor:
        weight = nn.Parameter(torch.zeros(32, 48))
        weight.grad = gradient.clone()
        optimizer([{"params": [weight], "use_fallback": False}], lr=1.0, weight_decay=0.0).step()
        return -weight.detach() / (0.2 * 48**0.5)

    timms = update(timm.optim.Muon)
    exact = orthogonalized(gradient.double()).float()
    monkeypatch.setattr("proteus.engine.optim.muon.cpu_has_bfloat16", lambda: False)
    torch.testing.assert_close(update(Muon), exact, rtol=0, atol=1e-5)
    torch.testing.assert_close(update(timm.optim.Muon), timms, rtol=0, atol=0)  # timm's own is not changed
    monkeypatch.setattr("proteus.engine.optim.muon.cpu_has_bfloat16", lambda: True)
    torch.testing.assert_close(update(Muon), timms, rtol=0, atol=0)
    assert (timms - exact).abs().max() > 1e-3


def test_groups() -> None:
    model = distiller()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {
        (group["use_fallback"], group["weight_decay"]): {names[id(each)] for each in group["params"]}
        for group in optimized(model).optimizer.param_groups
    }
    blocks = {f"student.vit.blocks.0.{layer}.weight" for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}
    assert groups.pop((False, 0.05)) == blocks
    others = groups.pop((True, 0.05))
    assert {"student.vit.patch_embed.proj.weight", "student.vit.cls_token", "student.vit.pos_embed"} <= others
    assert {"objectives.feature.head.1.weight", "objectives.feature.cls_head.1.weight"} <= others
    vectors = {name for name, parameter in model.named_parameters() if parameter.ndim == 1}
    assert groups == {(True, 0.0): vectors}  # exempt from weight decay, as with AdamW


def test_groups_without_other_options() -> None:
    with DefaultScope.overwrite_default_scope("proteus"):
        wrapper = MergedGroupsConstructor({"optimizer": {"type": "Muon", "lr": 1.0}})(model := distiller())
    found = {group["use_fallback"]: set(map(id, group["params"])) for group in wrapper.optimizer.param_groups}
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert found == {False: hidden_matrices(model), True: trained - hidden_matrices(model)}


def test_layer_decay_keeps_matrices_apart() -> None:
    options: dict[str, Any] = {"optimizer": {"type": "NAdaMuon", "lr": 1.0, "weight_decay": 0.1}}
    with DefaultScope.overwrite_default_scope("proteus"):
        wrapper = LayerDecayConstructor(options, {"layer_decay_rate": 0.5})(distiller())
    rates = {(group["use_fallback"], group["lr"]) for group in wrapper.optimizer.param_groups}
    assert rates == {(False, 0.5), (True, 0.25), (True, 0.5), (True, 1.0)}


@pytest.mark.parametrize("kind", KINDS)
def test_adamw_has_a_share_of_the_rate(kind: str) -> None:
    """A matrix moves as without the share, and everything else by it, whatever the schedule does to the rate."""

    def moved(**options: Any) -> dict[str, torch.Tensor]:
        model = distiller()
        start = copy.deepcopy(model.state_dict())
        optimizer = {"type": kind, "lr": 1e-3, "weight_decay": 0.0, **options}
        with DefaultScope.overwrite_default_scope("proteus"):
            wrapper = MergedGroupsConstructor({"optimizer": optimizer})(model)
        scheduler = torch.optim.lr_scheduler.ConstantLR(wrapper.optimizer, factor=0.5)
        model.train_step(batch(0), wrapper)
        scheduler.step()
        return {name: value - start[name] for name, value in model.state_dict().items()}

    whole, share = moved(), moved(adamw_lr_mult=0.25)
    matrix, vector = "student.vit.blocks.0.mlp.fc1.weight", "student.vit.blocks.0.norm1.weight"
    assert whole[vector].abs().max() > 1e-4
    torch.testing.assert_close(share[matrix], whole[matrix])
    torch.testing.assert_close(share[vector], 0.25 * whole[vector], atol=1e-6, rtol=1e-2)


def test_a_share_of_the_rate_without_marked_groups_is_refused() -> None:
    with pytest.raises(ValueError, match=r"adamw_lr_mult=0\.1: no parameter group .*MergedGroupsConstructor"):
        Muon([nn.Parameter(torch.zeros(3, 4))], adamw_lr_mult=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_it_resumes_exactly(kind: str) -> None:
    model = distiller()
    wrapper = optimized(model, kind)
    for step in range(2):
        model.train_step(batch(step), wrapper)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": wrapper.state_dict()}, file)
    model.train_step(batch(2), wrapper)

    file.seek(0)
    content = torch.load(file, weights_only=True)
    resumed = distiller()
    resumed_wrapper = optimized(resumed, kind)
    resumed.load_state_dict(content["model"])
    resumed_wrapper.load_state_dict(content["optimizer"])
    resumed.train_step(batch(2), resumed_wrapper)
    for name, value in model.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_make_the_same_step(kind: str) -> None:
    whole, parts = distiller(), distiller(micro_batches=2)
    start = copy.deepcopy(whole.state_dict())
    for model in (whole, parts):
        model.train_step(batch(0), optimized(model, kind))
    key = "student.vit.blocks.0.mlp.fc1.weight"
    expected, found = (model.state_dict()[key] - start[key] for model in (whole, parts))
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_kernels_are_matrices_but_not_those_of_the_stem_or_of_grouped_convolutions() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 6, 1),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.Conv2d(6, 8, 3, groups=2),
        nn.Conv2d(8, 4, 3),
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[each] for each in hidden_matrices(model)} == {"1.weight", "4.weight"}


@pytest.mark.parametrize(
    ("arch", "options", "tables"),
    [
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1)}, "relative_position_bias_table"),
        ("tiny_vit_5m_224", {"depths": (1, 1, 1, 1)}, "attention_biases"),
        ("samvit_base_patch16", {"depth": 1}, "rel_pos_[hw]"),
    ],
)
def test_adamw_updates_tables_of_position_biases(arch: str, options: dict[str, Any], tables: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(arch, num_classes=0, **options)
    matrices = hidden_matrices(model)
    names = [
        name
        for name, each in model.named_parameters()
        if each.ndim == 2 and 1 not in each.shape and id(each) not in matrices
    ]
    assert names
    assert all(re.search(rf"\.{tables}$", name) for name in names)


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("naflexvit_base_patch16_gap", {"embed_dim": 32, "num_heads": 2, "depth": 1}),
        ("test_vit", {}),
    ],
)
def test_adamw_updates_a_patch_embedding_of_any_kind(arch: str, options: dict[str, Any]) -> None:
    """NaFlexViT's is a linear layer of flattened patches, and ``test_vit`` has a convolution."""
    model = TimmBackbone(arch, img_size=32, **options)
    matrices = hidden_matrices(model)
    names = {name for name, each in model.named_parameters() if each.ndim > 1 and id(each) in matrices}
    layers = {f"{name}.weight" for name, each in model.named_modules() if isinstance(each, nn.Linear)}
    assert names == {name for name in layers if ".blocks." in name}
    assert names
    assert not any(each._forward_pre_hooks for each in model.modules())


def test_packed_weights_are_matrices_and_embeddings_are_not() -> None:
    model = nn.ModuleList([nn.MultiheadAttention(8, 2), nn.LSTM(8, 8), nn.Embedding(9, 8)])
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    expected = {"0.in_proj_weight", "0.out_proj.weight", "1.weight_ih_l0", "1.weight_hh_l0"}
    assert {names[each] for each in hidden_matrices(model)} == expected


def test_a_kernel_moves_as_the_matrix_of_its_output_channels() -> None:
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(4, 3, 2, 2))
    matrix = nn.Parameter(kernel.detach().reshape(4, 12).clone())
    kernel.grad = torch.randn(4, 3, 2, 2)
    matrix.grad = kernel.grad.reshape(4, 12).clone()
    Muon([{"params": [kernel, matrix], "use_fallback": False}], lr=0.1).step()
    assert torch.equal(kernel.reshape(4, 12), matrix)


def test_a_model_without_matrices() -> None:
    with pytest.raises(
        UserError, match=r"Muon updates matrices and kernels .*, and this model has none; write type='AdamW'"
    ):
        optimized(nn.Sequential(nn.Conv2d(3, 4, 1), nn.LayerNorm(4)))


def test_the_constructor_marks_no_groups_for_adamw() -> None:
    options: dict[str, Any] = {"optimizer": {"type": "AdamW", "lr": 1.0, "weight_decay": 0.1}}
    wrapper = MergedGroupsConstructor(options, {"norm_decay_mult": 0.0})(distiller())
    assert all("use_fallback" not in group for group in wrapper.optimizer.param_groups)
