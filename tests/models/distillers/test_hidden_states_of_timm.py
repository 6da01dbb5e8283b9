"""Hidden states of timm's models in whole training steps: of a DINOv3 into our ViT, and into a smaller DINOv3."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from mmengine.config import Config
from torch import Tensor

from proteus.apis.model_cost import step_cost
from proteus.models import Distiller, HiddenStatesObjective, MultiStudentDistiller, MultiTeacherDistiller, StepFeatures
from proteus.structures import Features

DINOV3 = dict(type="TimmBackbone", arch="vit_small_patch16_dinov3", img_size=32)
TEACHER: dict[str, Any] = dict(type="Teacher", backbone=dict(**DINOV3, embed_dim=48, depth=3, num_heads=3))
VIT = dict(type="ViT", arch="tiny", img_size=32, patch_size=16, embed_dim=32, depth=2, num_heads=2)
STUDENTS: dict[str, dict[str, Any]] = dict(vit=VIT, dinov3=dict(**DINOV3, embed_dim=32, depth=2, num_heads=2))
HIDDEN = dict(hidden=dict(type="HiddenStatesObjective"))
# As proteus distill writes them.
OBJECTIVES: dict[str, Any] = dict(
    **HIDDEN, token=dict(type="TokenObjective"), feature=dict(type="FeatureObjective", cls_term="token")
)
every_student = pytest.mark.parametrize("student", STUDENTS)


def built(student: str = "dinov3", teacher: dict[str, Any] = TEACHER, **options: Any) -> Distiller:
    torch.manual_seed(0)
    objectives = options.pop("objectives", OBJECTIVES)
    arguments = {key: options.pop(key) for key in ("micro_batches", "compile_student") if key in options}
    model = Distiller(*copy.deepcopy((teacher, {**STUDENTS[student], **options}, objectives)), **arguments)
    if "hidden" in model.objectives_by_name:
        basis = torch.linalg.qr(torch.randn(48, 32, generator=torch.Generator().manual_seed(1)))[0].T
        model.objectives["hidden"].set_basis(basis)
    return model.train()


def pixels() -> Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def losses(model: Any, seed: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    found: dict[str, Tensor] = model(**model.data_preprocessor({"inputs": pixels()}, True), mode="loss")
    return found


def gradients(model: Any, found: dict[str, Tensor]) -> dict[str, Tensor]:
    torch.stack(list(found.values())).sum().backward()
    return {name: each.grad for name, each in model.named_parameters() if each.requires_grad}


def streams_of(network: Any) -> list[Features]:
    """A list that gets the stream after each block of a network when it runs."""
    streams: list[Features] = []
    prefix = network.num_prefix_tokens

    def keep(block: Any, arguments: Any, tokens: Tensor) -> None:
        streams.append(Features(tokens[:, 0], tokens[:, prefix:], (2, 2)))

    for block in network.blocks:
        block.register_forward_hook(keep)
    return streams


@every_student
def test_the_term_is_that_of_what_the_blocks_return_in_one_pass(student: str) -> None:
    model = built(student)
    network = model.student.vit if student == "vit" else model.student.model
    theirs, ours = streams_of(model.teacher.backbone.model), streams_of(network)
    found = losses(model)
    assert (len(theirs), len(ours)) == (3, 2)
    step = StepFeatures(theirs[-1], ours[-1], teacher_hidden=tuple(theirs), student_hidden=tuple(ours))
    expected = model.objectives["hidden"](step, {})
    assert expected > 0
    torch.testing.assert_close(found["loss_hidden"], expected)


def test_on_the_meta_device_a_teacher_gives_the_shapes_of_its_hidden_states() -> None:
    """Processes among which teachers are spread ask one for them."""
    teacher = built().teacher
    found = teacher.encode(pixels(), hidden_states=True).hidden
    outline = teacher.to("meta").encode(pixels().to("meta"), hidden_states=True).hidden
    assert [(each.cls.shape, each.patches.shape, each.grid) for each in outline] == [
        (each.cls.shape, each.patches.shape, each.grid) for each in found
    ]


@every_student
def test_gradients_reach_student_and_heads_and_not_the_teacher(student: str) -> None:
    model = built(student)
    found = gradients(model, losses(model))
    # DistributedDataParallel waits for the gradient of every parameter that asks for one.
    assert not [name for name, value in found.items() if value is None]
    assert all(value.any() for name, value in found.items() if "blocks" in name or ".head" in name)
    assert all(each.grad is None for each in model.teacher.backbone.parameters())
    alone = built(student, objectives=HIDDEN)
    reached = {name for name, value in gradients(alone, losses(alone)).items() if value is not None and value.any()}
    assert {name.split(".")[0] for name in reached} == {"student"}


@every_student
def test_checkpointed_activations_give_the_same_gradients_with_drop_path(student: str) -> None:
    models = [built(student, drop_path_rate=0.5, grad_checkpointing=checkpointing) for checkpointing in (False, True)]
    plain, again = (gradients(model, losses(model)) for model in models)
    for name, value in plain.items():
        torch.testing.assert_close(again[name], value, msg=name)
    assert losses(models[0], seed=5)["loss_hidden"] != losses(models[0], seed=3)["loss_hidden"]


def test_each_of_several_students_drops_the_paths_that_it_would_drop_alone() -> None:
    alone = {name: losses(built(name, drop_path_rate=0.5)) for name in STUDENTS}
    students = {
        name: dict(student={**config, "drop_path_rate": 0.5}, objectives=OBJECTIVES)
        for name, config in STUDENTS.items()
    }
    torch.manual_seed(0)
    model = MultiStudentDistiller(copy.deepcopy(TEACHER), copy.deepcopy(students)).train()
    for name, distiller in model.distillers.items():
        distiller.load_state_dict(built(name).state_dict())
    for term, value in losses(model).items():
        name, _, key = term.partition(".")
        torch.testing.assert_close(value, alone[name][key])


def test_one_student_learns_the_hidden_states_of_two_teachers() -> None:
    other = dict(type="Teacher", backbone={**VIT, "embed_dim": 40, "num_heads": 5})
    teachers = dict(dinov3=dict(teacher=TEACHER, objectives=OBJECTIVES), vit=dict(teacher=other, objectives=OBJECTIVES))
    torch.manual_seed(0)
    model = MultiTeacherDistiller(copy.deepcopy(teachers), copy.deepcopy(STUDENTS["dinov3"])).train()
    found = losses(model)
    images = model.data_preprocessor({"inputs": pixels()}, True)["inputs"]
    clean, _, ours = model.student.encode_with_hidden_states(images)
    for name, distiller in model.distillers.items():
        theirs = distiller.run_teacher(images)
        step = StepFeatures(theirs.features, clean, teacher_hidden=theirs.hidden, student_hidden=ours)
        objective = distiller.objectives["hidden"]
        assert isinstance(objective, HiddenStatesObjective)
        torch.testing.assert_close(found[f"{name}/loss_hidden"], objective(step, {}))


@every_student
def test_the_student_is_compiled_as_one_graph(student: str) -> None:
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    model = built(student, compile_student={"backend": backend, "fullgraph": True})
    expected = losses(built(student))
    for _ in range(2):
        torch.testing.assert_close(losses(model), expected)
    assert len(graphs) == 1


def test_hidden_states_cost_no_second_pass() -> None:
    cfg = Config({"train_dataloader": {"batch_size": 4}})
    costs = []
    for objectives in (OBJECTIVES, {**OBJECTIVES, "hidden": None}):
        with torch.device("meta"):
            costs.append(step_cost(built(objectives=objectives), cfg))
    assert costs[0].teacher_flops == costs[1].teacher_flops > 0
    assert costs[0].student_flops == costs[1].student_flops > 0


@pytest.mark.parametrize("part", ["student", "teacher.backbone"])
@pytest.mark.parametrize(
    ("backbone", "reason"),
    [
        (dict(type="TimmBackbone", arch="test_convnext", img_size=64), "timm's test_convnext has none, .*'ViT' or a"),
        ({**STUDENTS["dinov3"], "arch": "vit_base_patch16_siglip_224"}, "timm's vit_base_patch16_siglip_224 has none"),
    ],
    ids=["CNN", "no cls token"],
)
def test_other_models_are_refused_in_one_line(part: str, backbone: dict[str, Any], reason: str) -> None:
    teacher, student = (TEACHER, backbone) if part == "student" else (dict(type="Teacher", backbone=backbone), VIT)
    message = rf"^model\.objectives\.hidden needs the hidden states of {part}, and {reason}.*, or remove the objective$"
    objectives = dict(hidden=dict(type="HiddenStatesObjective", teacher_dim=64))
    with pytest.raises(ValueError, match=message):
        Distiller(copy.deepcopy(teacher), {**backbone} if part == "student" else {**student}, objectives)


def test_levels_of_a_student_are_refused_with_hidden_states() -> None:
    with pytest.raises(ValueError, match=r"levels=\[0, 1\] has none: write levels=None, or remove the objective"):
        built(levels=(-2, -1), objectives=dict(hidden=dict(type="HiddenStatesObjective", student_dim=32)))
