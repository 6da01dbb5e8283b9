"""Objectives beyond the paper's, in whole training steps: alone, in parts, with other students, and on two ranks."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from data_samples import data_samples
from mmengine.optim import OptimWrapper
from torch import Tensor
from two_ranks import on_two_ranks

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


def batch(step: int, ranks: slice = slice(None)) -> dict[str, Any]:
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


def trained(model: Any, wrapped: Any = None, steps: int = 3, ranks: slice = slice(None)) -> list[dict[str, Tensor]]:
    """Logged losses and gradients of each step."""
    wrapper = Kept(model)
    logs = [(wrapped or model).train_step(batch(step, ranks), wrapper) for step in range(steps)]
    return [{**log, **update} for log, update in zip(logs, wrapper.updates, strict=True)]


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
    logs = trained(fill(model))
    for name in ("first", "second"):
        own = [{key.partition(".")[2]: log[key] for key in log if key.startswith(f"{name}.")} for log in logs]
        assert_equal(own, [{key: value for key, value in step.items() if key.startswith("loss_")} for step in steps])


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
from test_objectives_with_memory import IN_BATCH, OBJECTIVES, PAIRS, built, trained
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
        means = [{key: (one[key] + two[key]) / 2 for key in one} for one, two in zip(first, second, strict=True)]
        assert_equal(means, expected)
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
