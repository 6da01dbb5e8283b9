"""Objectives and methods beyond the paper's, in whole training steps.

They run alone, in parts, with several students, and on two ranks. Methods are mixed images, Muon, and the average of
the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from data_samples import data_samples
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from torch import Tensor
from two_ranks import on_two_ranks

from proteus.engine import MergedGroupsConstructor
from proteus.engine.hooks import StudentEMAHook
from proteus.engine.hooks.student_ema import delivered_weights
from proteus.models import Distiller, ForeachEMA, HiddenStatesObjective, MultiStudentDistiller
from proteus.models.distillers.checks import mask_parameter

SIZE = dict(type="ViT", arch="tiny", img_size=56, patch_size=14, depth=1, interpolate_offset=0.0)
TEACHER = dict(type="Teacher", backbone=dict(**SIZE, embed_dim=32, num_heads=4))
STUDENT = dict(**SIZE, embed_dim=24, num_heads=3, mask_token=True)
# timm's Eva, with rotary positions and registers; its student has masked pixels in place of a mask token.
DINOV3 = dict(type="TimmBackbone", arch="vit_small_patch16_dinov3", img_size=56, patch_size=14, depth=1)
PAIRS: dict[str, Any] = dict(
    vit=(TEACHER, STUDENT),
    dinov3=(
        dict(type="Teacher", backbone=dict(**DINOV3, embed_dim=32, num_heads=4)),
        dict(**DINOV3, embed_dim=24, num_heads=3, mask_colour="learnt"),
    ),
)
STANDARDIZED = dict(type="StandardizedMSELoss")
# A queue of less than two batches, so that it matters which tokens leave first.
OBJECTIVES: dict[str, Any] = dict(
    gram=dict(type="PatchRelationObjective"),
    rows=dict(type="PatchRelationObjective", loss=dict(type="RelationKLLoss"), head=dict(type="DistillHead")),
    queue=dict(type="TokenRelationObjective", queue_size=13),
    all=dict(type="PatchObjective", tokens="all", loss=dict(type="BalancedLoss")),
    token=dict(type="TokenObjective", loss=STANDARDIZED),
    feature=dict(type="FeatureObjective", loss=STANDARDIZED),
    patch=dict(type="PatchObjective", loss=STANDARDIZED),
    hidden=dict(type="HiddenStatesObjective"),
)
IN_BATCH = dict(batch=dict(type="TokenRelationObjective"))
PLAIN = dict(
    token=dict(type="TokenObjective"), patch=dict(type="PatchObjective"), gram=dict(type="PatchRelationObjective")
)
# Arguments of a distiller that mixes images, and of one that compares all patches on a smaller grid.
MIXED: dict[str, Any] = dict(
    objectives=PLAIN, data_preprocessor=dict(type="MixupDataPreprocessor", mixup=1.0, cutmix=0.0, num_classes=None)
)
OTHERS: dict[str, dict[str, Any]] = dict(mixed=MIXED, grid=dict(objectives=PLAIN, grids=dict(match=(2, 3))))
MUONS = ("Muon", "NAdaMuon")


def fill(model: Any) -> Any:
    for distiller in model.distillers.values():
        generator = torch.Generator().manual_seed(0)
        mask_parameter(distiller.student).data.normal_(generator=generator)
        if hasattr(distiller.student, "model"):  # timm's first cls token is near 0, and the norm magnifies rounding
            distiller.student.model.cls_token.data.normal_(generator=generator)
        for objective in distiller.objectives_by_name.values():
            if isinstance(objective, HiddenStatesObjective):  # else it is that of the first part of a batch
                objective.set_basis(torch.linalg.qr(torch.randn(32, 24, generator=generator))[0].T)
    return model


def built(objectives: dict[str, Any] = OBJECTIVES, pair: str = "vit", **options: Any) -> Distiller:
    torch.manual_seed(0)
    model = Distiller(*copy.deepcopy((*PAIRS[pair], objectives)), **options)
    return fill(model)


def batch(step: int, ranks: slice | Sequence[int] = slice(None)) -> dict[str, Any]:
    """Eight images, all of them masked, with other numbers of patches each; all of them or those of a rank."""
    generator = torch.Generator().manual_seed(step)
    images = torch.rand(8, 3, 56, 56, generator=generator)
    counts = torch.tensor([1, 12, 5, 0, 3, 16, 7, 2])[:, None]
    masks = torch.rand(8, 16, generator=generator).argsort(1) < counts
    masks, images = masks[ranks], images[ranks]
    indices = masks.flatten().nonzero().squeeze(1)
    return {
        "inputs": images,
        "masks": masks,
        "mask_indices": indices,
        "data_samples": data_samples(*[{}] * len(images)),
    }


class Kept(OptimWrapper):
    """An optimizer that leaves the weights, and keeps the gradients of each update."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(torch.optim.SGD(model.parameters(), lr=0.0))
        self.named = dict(model.named_parameters())
        self.updates: list[dict[str, Tensor]] = []

    def step(self, **kwargs: Any) -> None:
        self.updates.append({name: p.grad.clone() for name, p in self.named.items() if p.grad is not None})


def trained(
    model: Any, wrapped: Any = None, steps: int = 3, ranks: slice | Sequence[int] = slice(None)
) -> list[dict[str, Tensor]]:
    """Logged losses and gradients of each step; the step seeds what it draws, on all ranks alike."""
    wrapper, logs = Kept(model), []
    for step in range(steps):
        torch.manual_seed(step)
        logs.append((wrapped or model).train_step(batch(step, ranks), wrapper))
    return [{**log, **update} for log, update in zip(logs, wrapper.updates, strict=True)]


def updated(
    model: Any, optimizer: str, wrapped: Any = None, ranks: slice | Sequence[int] = slice(None)
) -> dict[str, dict[str, Tensor]]:
    """The trained and the delivered weights after three updates, with an average of a few steps."""
    # Some gradients are 0 but for rounding (biases of keys), which a smaller eps would make steps of full length.
    config = {"optimizer": {"type": optimizer, "lr": 1e-3, "weight_decay": 0.1, "eps": 1e-5}}
    hook = StudentEMAHook(gamma=1.0)
    runner: Any = SimpleNamespace(model=wrapped or model, hooks=[hook], iter=0)
    with DefaultScope.overwrite_default_scope("proteus"):
        wrapper = MergedGroupsConstructor(config)(model)
        hook.before_run(runner)
    for step in range(3):
        torch.manual_seed(step)
        runner.iter = step
        runner.model.train_step(batch(step, ranks), wrapper)
        hook.after_train_iter(runner, step)
    weights = {"trained": {name: value.detach().clone() for name, value in model.named_parameters()}}
    with delivered_weights(runner):
        weights["delivered"] = {name: value.detach().clone() for name, value in model.named_parameters()}
    return weights


def streams_of(network: Any) -> list[Tensor]:
    """A list that gets the tokens after each block of a network when it runs."""
    streams: list[Tensor] = []
    for block in getattr(network, "vit", getattr(network, "model", None)).blocks:
        block.register_forward_hook(lambda _, arguments, tokens: streams.append(tokens))
    return streams


def assert_equal(found: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]) -> None:
    for step, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.keys() == other.keys()
        for name, value in other.items():
            torch.testing.assert_close(
                one[name], value.detach(), atol=1e-5, rtol=1e-5, msg=lambda m, n=name, s=step: f"{s} {n}: {m}"
            )


@pytest.fixture(scope="module", params=PAIRS)
def pair(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def steps(pair: str) -> list[dict[str, Tensor]]:
    return trained(built(pair=pair))


def test_all_patches_and_hidden_states_are_those_of_a_naive_reference(pair: str) -> None:
    """Image by image, block by block and token by token; gradients as well."""
    teacher, student = copy.deepcopy(PAIRS[pair])
    teacher["backbone"]["depth"], student["depth"] = 4, 2
    torch.manual_seed(0)
    objectives = dict(all=dict(type="PatchObjective", tokens="all"), hidden=OBJECTIVES["hidden"])
    model = fill(Distiller(teacher, student, objectives))
    (found,) = trained(model, steps=1)
    data = batch(0)
    images = (data["inputs"] - model.data_preprocessor.mean) / model.data_preprocessor.std
    theirs, ours = streams_of(model.teacher.backbone), streams_of(model.student)
    head, basis = model.objectives["all"].head, model.objectives["hidden"].basis
    patches, hidden = [], []
    for image, mask in zip(images.split(1), data["masks"].split(1), strict=True):
        theirs.clear()
        ours.clear()
        target = model.teacher(image).patches[0]
        model.student(image)
        for own, other in ((ours[0], theirs[1]), (ours[1], theirs[3])):  # at half of the depth, and at its end
            errors = [
                (s - basis @ t).square().sum() / (t - t.mean()).square().sum()
                for s, t in zip(own[0], other[0], strict=True)
            ]
            # Between the cls token and the patches are DINOv3's registers.
            hidden.append(0.25 * errors[0] + 0.75 * sum(errors[-16:]) / 16)
        masked = model.student(image, mask).patches[0]
        patches += [F.mse_loss(head(s), t) for s, t in zip(masked, target, strict=True)]
    terms = {"loss_all": sum(patches) / (8 * 16), "loss_hidden": sum(hidden) / (8 * 2)}
    total: Any = sum(terms.values())
    named = {name: value for name, value in model.named_parameters() if value.requires_grad}
    gradients = torch.autograd.grad(total, list(named.values()), materialize_grads=True)
    assert_equal([found], [{"loss": total, **terms, **dict(zip(named, gradients, strict=True))}])


def test_a_step_with_mixed_images_is_a_naive_one() -> None:
    model = built(**MIXED)
    found = trained(model)
    named = {name: value for name, value in model.named_parameters() if value.requires_grad}
    expected = []
    for step in range(3):
        data = batch(step)
        torch.manual_seed(step)
        share = torch.distributions.Beta(1.0, 1.0).sample().item()
        assert 0.01 < share < 0.99
        images = (data["inputs"] - model.data_preprocessor.mean) / model.data_preprocessor.std
        mixed = torch.stack([share * images[i] + (1 - share) * images[7 - i] for i in range(8)])
        masks, teacher = data["masks"], model.teacher(mixed)
        clean, masked = model.student(mixed), model.student(mixed, masks)
        grams = [F.normalize(each.patches, dim=-1) for each in (clean, teacher)]
        terms = {
            "loss_token": F.mse_loss(model.objectives["token"].head(clean.cls), teacher.cls),
            "loss_patch": F.mse_loss(model.objectives["patch"].head(masked.patches[masks]), teacher.patches[masks]),
            "loss_gram": F.mse_loss(*(each @ each.mT for each in grams)),
        }
        total: Any = sum(terms.values())
        gradients = torch.autograd.grad(total, list(named.values()), materialize_grads=True)
        expected.append({"loss": total, **terms, **dict(zip(named, gradients, strict=True))})
    assert_equal(found, expected)


def test_gradients_reach_the_student_and_the_terms_own_head_and_nothing_else(pair: str) -> None:
    model = built(OBJECTIVES | IN_BATCH, pair)
    trained(model, steps=1)  # with a queue and statistics
    named = dict(model.named_parameters())
    losses = model(**model.data_preprocessor(batch(1), True), mode="loss")
    for name, objective in model.objectives.items():
        gradients = torch.autograd.grad(
            losses[f"loss_{name}"], list(named.values()), retain_graph=True, allow_unused=True
        )
        reached = {
            key for key, gradient in zip(named, gradients, strict=True) if gradient is not None and gradient.any()
        }
        heads = {key for key in reached if key.startswith("objectives.")}
        assert heads == {f"objectives.{name}.{key}" for key, _ in objective.named_parameters()}
        # The mask token is seen in the masked view alone.
        token = {key for key, value in named.items() if value is mask_parameter(model.student)}
        assert (token <= reached) == (name in ("all", "patch")), name
        network = {"vit": "student.vit", "dinov3": "student.model"}[pair]
        assert {f"{network}.patch_embed.proj.weight", f"{network}.blocks.0.mlp.fc2.weight"} <= reached
    assert all(parameter.grad is None for parameter in model.teacher.backbone.parameters())


@pytest.mark.parametrize("parts", [2, 4])
def test_a_step_in_parts_is_the_step(parts: int, pair: str, steps: list[dict[str, Tensor]]) -> None:
    assert_equal(trained(built(pair=pair, micro_batches=parts)), steps)


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_have_one_mixture(parts: int) -> None:
    assert_equal(trained(built(**MIXED, micro_batches=parts)), trained(built(**MIXED)))


@pytest.mark.parametrize("parts", [2, 4])
def test_the_average_of_steps_in_parts_is_that_of_the_steps(parts: int) -> None:
    whole, found = updated(built(), "AdamW"), updated(built(micro_batches=parts), "AdamW")
    key = "student.vit.blocks.0.attn.qkv.weight"
    assert (whole["delivered"][key] - whole["trained"][key]).abs().max() > 1e-4
    assert_equal([found["delivered"]], [whole["delivered"]])


def test_cached_tokens_of_the_teacher_give_the_same_terms() -> None:
    # Hidden states are not cached.
    model, cached = (built({**OBJECTIVES, **IN_BATCH, "hidden": None}) for _ in range(2))
    cached.teacher.backbone.register_forward_pre_hook(lambda *_: pytest.fail("the teacher has run"))
    for step in range(2):
        data = model.data_preprocessor(batch(step), True)
        tokens = model.teacher(data["inputs"])
        expected = model(**data, mode="loss")
        found = cached(**data, teacher_cls=tokens.cls, teacher_patches=tokens.patches, mode="loss")
        for name, term in expected.items():
            torch.testing.assert_close(found[name], term)


def test_each_of_several_students_learns_as_it_would_alone(pair: str, steps: list[dict[str, Tensor]]) -> None:
    torch.manual_seed(0)
    teacher, student = PAIRS[pair]
    one = dict(student=student, objectives=OBJECTIVES)
    model = MultiStudentDistiller(teacher, copy.deepcopy(dict(first=one, second=one)), micro_batches=2)
    assert_each_equals(trained(fill(model)), steps)


def assert_each_equals(found: list[dict[str, Tensor]], alone: list[dict[str, Tensor]]) -> None:
    """Losses and gradients of each of two students are those of the one that was trained alone."""
    expected = [{key: value for key, value in step.items() if key != "loss"} for step in alone]
    for name in ("first", "second"):
        own = [
            {
                key.removeprefix(f"{name}.").removeprefix(f"students.{name}."): value
                for key, value in log.items()
                if key.startswith((f"{name}.", f"students.{name}."))
            }
            for log in found
        ]
        assert_equal(own, expected)


def two_students(objectives: dict[str, Any], **options: Any) -> Any:
    torch.manual_seed(0)
    one = dict(student=STUDENT, objectives=objectives)
    return fill(MultiStudentDistiller(*copy.deepcopy((TEACHER, dict(first=one, second=one))), **options))


@pytest.mark.parametrize("options", [dict(objectives=IN_BATCH), MIXED], ids=["relations in the batch", "mixed images"])
def test_each_of_several_students_learns_from_a_whole_batch_as_it_would_alone(options: dict[str, Any]) -> None:
    assert_each_equals(trained(two_students(**options)), trained(built(**options)))


@pytest.fixture
def _float32_in_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its iterations in bfloat16 would round away from each other what differs in the last digit."""
    monkeypatch.setattr("proteus.engine.optim.muon.cpu_has_bfloat16", lambda: False)


@pytest.mark.usefixtures("_float32_in_muon")
@pytest.mark.parametrize("kind", MUONS)
def test_muon_updates_each_of_several_students_as_it_would_alone(kind: str) -> None:
    start = dict(built().named_parameters())
    alone, together = (updated(model, kind) for model in (built(), two_students(OBJECTIVES)))
    key = "student.vit.blocks.0.attn.qkv.weight"
    assert (alone["trained"][key] - start[key]).abs().max() > 2e-4
    for weights, expected in alone.items():
        for name in ("first", "second"):
            prefix = f"students.{name}."
            own = {k.removeprefix(prefix): value for k, value in together[weights].items() if k.startswith(prefix)}
            assert_equal([own], [expected])


def test_a_resumed_run_continues_with_queue_and_statistics(pair: str, steps: list[dict[str, Tensor]]) -> None:
    model, average = built(pair=pair), ForeachEMA(built(pair=pair), momentum=0.5)
    trained(model, steps=2)
    average.update_parameters(model)
    state = copy.deepcopy(model.state_dict())
    assert {name.rpartition(".")[2] for name, _ in model.objectives.named_buffers()} == {
        "queue", "mean", "variance", "count", "basis",
    }  # fmt: skip
    assert all(torch.equal(average.module.state_dict()[name], value) for name, value in state.items())
    resumed = built(pair=pair)
    resumed.load_state_dict(state)
    data = model.data_preprocessor(batch(2), True)
    expected, found = model(**data, mode="loss"), resumed(**data, mode="loss")
    for name, term in expected.items():
        assert torch.equal(found[name], term), name
        torch.testing.assert_close(term, steps[2][name].detach())
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in model.state_dict().items())


def test_predictions_are_in_the_teachers_space() -> None:
    model = built({name: OBJECTIVES[name] for name in ("feature",)})
    trained(model, steps=1)
    student = model.student(batch(0)["inputs"])
    feature = model.objectives["feature"]
    for kind, head, loss in (("cls", feature.cls_head, feature.cls_loss), ("patches", feature.head, feature.loss)):
        expected = head(getattr(student, kind)) * (loss.variance + 1e-5).sqrt() + loss.mean
        torch.testing.assert_close(model.predict_tokens(student)[kind], expected)
    assert feature.loss.count == 8 * 16
    assert feature.cls_loss.count == 8


def test_relations_within_a_batch_are_not_computed_in_parts() -> None:
    words = (
        r"objectives \['batch'\] compare all images .*micro_batches=2 processes them in separate parts: write micro_"
    )
    with pytest.raises(ValueError, match=r"model\." + words):
        built(OBJECTIVES | IN_BATCH, micro_batches=2)
    with pytest.raises(ValueError, match=r"model\.students\.tiny\." + words):
        MultiStudentDistiller(TEACHER, dict(tiny=dict(student=STUDENT, objectives=IN_BATCH)), micro_batches=2)


RANK = """
import proteus.models.objectives.hidden_states as hidden_states
import proteus.engine.optim.muon as muon
from test_objectives_with_memory import IN_BATCH, MUONS, OBJECTIVES, OTHERS, PAIRS, built, trained, updated
from proteus.engine import DataParallel
from proteus.models import Distiller

# Eigenvectors have no sign: here each rank finds another one.
basis_of_moment = hidden_states.basis_of_moment
hidden_states.basis_of_moment = lambda moment, width: (1 - 2 * rank) * basis_of_moment(moment, width)
own = slice(4 * rank, 4 * rank + 4)
result = {}
for pair in PAIRS:
    for name, objectives, parts in (("parts", OBJECTIVES, 2), ("batch", IN_BATCH | {"all": OBJECTIVES["all"]}, 1)):
        model = built(objectives, pair, micro_batches=parts)
        logs = trained(model, DataParallel(model), ranks=own)
        result[pair, name] = (logs, dict(model.objectives.named_buffers()))
    torch.manual_seed(0)
    model = Distiller(*PAIRS[pair], dict(hidden=dict(type="HiddenStatesObjective")))
    logs = trained(model, DataParallel(model), ranks=own)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    result[pair, "hidden"] = (logs, model.objectives["hidden"].basis, names)

# An image is mixed with the one at its place in the reverse order, of the batch of its process.
for name, options in OTHERS.items():
    model = built(**options)
    result[name] = trained(model, DataParallel(model), ranks=[[0, 1, 6, 7], [2, 3, 4, 5]][rank])
muon.cpu_has_bfloat16 = lambda: False
for kind in MUONS:
    model = built()
    result[kind] = updated(model, kind, DataParallel(model), own)
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return on_two_ranks(RANK, __file__, tmp_path_factory.mktemp("ranks"))


@pytest.mark.slow
def test_two_ranks_learn_as_one(pair: str, ranks: tuple[Any, Any]) -> None:
    whole, batch_alone = built(pair=pair), built(IN_BATCH | {"all": OBJECTIVES["all"]}, pair)
    for name, model in (("parts", whole), ("batch", batch_alone)):
        expected = trained(model)
        (first, buffers), (second, others) = (each[pair, name] for each in ranks)
        # Losses are those of the ranks' own images; gradients are averaged.
        assert_equal(mean_of_ranks(first, second), expected)
        for key, buffer in model.objectives.named_buffers():
            assert torch.equal(buffers[key], others[key])
            torch.testing.assert_close(buffers[key], buffer, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_two_ranks_train_with_hidden_states_alone(pair: str, ranks: tuple[Any, Any]) -> None:
    """No objective reads the last norm, and the first step computes the basis."""
    (first, basis, names), (second, other, _) = (each[pair, "hidden"] for each in ranks)
    assert basis.any()
    assert torch.equal(basis, other)
    for one, two in zip(first, second, strict=True):
        assert set(names) <= set(one)
        assert not one[{"vit": "student.vit", "dinov3": "student.model"}[pair] + ".norm.weight"].any()
        assert all(torch.equal(one[name], two[name]) for name in names)


def mean_of_ranks(first: list[dict[str, Tensor]], second: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    return [{key: (one[key] + two[key]) / 2 for key in one} for one, two in zip(first, second, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_two_ranks_with_mixed_images_or_a_common_grid_learn_as_one(name: str, ranks: tuple[Any, Any]) -> None:
    assert_equal(mean_of_ranks(*(each[name] for each in ranks)), trained(built(**OTHERS[name])))


@pytest.mark.slow
@pytest.mark.usefixtures("_float32_in_muon")
@pytest.mark.parametrize("kind", MUONS)
def test_two_ranks_with_muon_end_with_the_weights_of_one_and_their_average(kind: str, ranks: tuple[Any, Any]) -> None:
    expected = updated(built(), kind)
    for weights, each in expected.items():
        first, second = (own[kind][weights] for own in ranks)
        assert all(torch.equal(second[name], value) for name, value in first.items())
        assert_equal([first], [each])
