from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from data_samples import data_samples
from mmengine.hooks import Hook
from mmengine.runner import Runner
from safetensors.torch import load_file
from two_ranks import on_two_ranks

from proteus.engine.hooks import TeacherDepthHook
from proteus.engine.hooks.teacher_depth import linear_cka
from proteus.models import Distiller, MultiStudentDistiller, MultiTeacherDistiller
from proteus.models.teachers import TeacherOutput
from proteus.registry import HOOKS
from proteus.structures import UserError

SIZE = dict(type="ViT", arch="tiny", img_size=28, patch_size=14, interpolate_offset=0.0)
TEACHER = dict(type="Teacher", backbone=dict(**SIZE, embed_dim=32, num_heads=4, depth=4))
ONE = dict(
    student=dict(**SIZE, embed_dim=24, num_heads=3, depth=1), objectives=dict(feature=dict(type="FeatureObjective"))
)
IMAGES = torch.rand(8, 3, 28, 28, generator=torch.Generator().manual_seed(0))


@HOOKS.register_module(force=True)
class Blocks(Hook):
    """Keep the block of each iteration, and that of evaluations."""

    priority = "LOW"

    def __init__(self) -> None:
        self.trained: list[int] = []
        self.between: list[Any] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.trained.append(runner.model.teacher.last_block)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.between.append(runner.model.teacher.last_block)


def built(**options: Any) -> Distiller:
    torch.manual_seed(0)
    return Distiller(teacher=TEACHER, **ONE, **options)


def stepped(model: Any, wrapped: Any = None, images: slice = slice(None)) -> tuple[dict[str, torch.Tensor], int]:
    """Losses and gradients of a training step at block 2, as the hook runs it, and the block of the next step."""
    data = {"inputs": IMAGES[images], "data_samples": data_samples(*[{}] * len(IMAGES[images]))}
    hook = TeacherDepthHook(threshold=1e-3, max_share=1.0, interval=1)
    hook.block = 2
    runner = fake_runner(wrapped or model)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0, data)
    log = runner.model.train_step(data, Stepless(model))
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    hook.after_train_iter(runner, 0, data)
    return {**log, **gradients}, hook.block


def fake_runner(model: Any, max_iters: int = 100, dataset: Any = None) -> Any:
    loader = SimpleNamespace(dataset=dataset)
    return SimpleNamespace(
        model=model, max_iters=max_iters, iter=0, train_dataloader=loader, logger=logging.getLogger("test")
    )


def test_cka_equals_the_kernel_form() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(20, 5), torch.randn(20, 3)
    centre = torch.eye(20) - 1 / 20
    first, second = (centre @ (each @ each.T) @ centre for each in (x, y))
    expected = (first * second).sum() / (first.norm() * second.norm())
    torch.testing.assert_close(linear_cka(x, y), expected)
    rotation = torch.linalg.qr(torch.randn(5, 5))[0]
    assert linear_cka(x, 3 * x @ rotation + 2) == pytest.approx(1, abs=1e-5)
    # By hand: centred (1, -1, 0) and (1, 1, -2); the product is 0. Against (1, 0, -1): 1 / (2 x 2).
    assert linear_cka(torch.tensor([[1.0], [-1], [0]]), torch.tensor([[1.0], [1], [-2]])) == pytest.approx(0, abs=1e-6)
    assert linear_cka(torch.tensor([[1.0], [-1], [0]]), torch.tensor([[1.0], [0], [-1]])) == pytest.approx(0.25)


@pytest.mark.parametrize("parts", [1, 2])
def test_terms_and_gradients_are_those_against_the_block(parts: int) -> None:
    early, reference = built(micro_batches=parts), built()
    ran: list[int] = []
    for number, block in enumerate(early.teacher.backbone.vit.blocks):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    data = {"inputs": IMAGES, "data_samples": data_samples(*[{}] * 8)}
    early.teacher.last_block = 2
    early.train_step(data, Stepless(early))
    assert set(ran) == {0, 1}  # the teacher stops
    inputs = reference.data_preprocessor(data, True)["inputs"]
    with torch.no_grad():
        (level,) = reference.teacher.backbone.levels(inputs, [1])
    sum(reference.losses(inputs, teacher_output=TeacherOutput(level)).values()).backward()
    gradients = dict(early.named_parameters())
    for name, parameter in reference.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(gradients[name].grad, parameter.grad, atol=1e-5, rtol=1e-5)
    assert all(parameter.grad is None for parameter in early.teacher.backbone.parameters())


class Stepless:
    """An optimizer wrapper that keeps gradients and changes no weight."""

    def __init__(self, model: Any) -> None:
        from mmengine.optim import OptimWrapper

        self.wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0))
        self.wrapper.zero_grad = lambda **_: None  # type: ignore[method-assign]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapper, name)


def test_the_block_rises_in_a_run_and_resumes(make_runner: Callable[..., Runner]) -> None:
    def run(name: str, **more: Any) -> tuple[Runner, Blocks]:
        hooks = [dict(type="TeacherDepthHook", max_share=0.3, interval=100, images=4), dict(type="Blocks")]
        options = {"model__teacher__backbone__depth": 2, "default_hooks__checkpoint__interval": 1}
        options["default_hooks__checkpoint__max_keep_ckpts"] = -1
        runner = make_runner(name, hooks, train_cfg__max_iters=4, **options, **more)
        hook: Any = next(hook for hook in runner.hooks if isinstance(hook, TeacherDepthHook))
        hook._cka = lambda runner, batch, block: [0.9, 0.5][block - 1]  # the first block is the most similar
        runner.train()
        return runner, next(hook for hook in runner.hooks if isinstance(hook, Blocks))

    whole, blocks = run("whole")
    assert blocks.trained == [1, 1, 2, 2]  # 0.3 of 4 iterations, rounded up
    assert blocks.between == [None] * 4  # evaluations see the whole teacher
    assert whole.model.teacher.last_block is None
    last = Path(whole.work_dir)
    resumed, blocks = run("resumed", resume=True, load_from=str(last / "iter_1.pth"))
    assert blocks.trained == [1, 2, 2]
    expected = load_file(last / "student.safetensors")
    torch.testing.assert_close(load_file(Path(resumed.work_dir) / "student.safetensors"), expected, atol=0, rtol=0)


def test_cka_decides() -> None:
    model = built()
    hook = TeacherDepthHook(threshold=0.5, max_share=1.0, interval=1, images=4)
    runner = fake_runner(model)
    hook.before_train(runner)
    scores = [hook._cka(runner, {"inputs": IMAGES}, block) for block in (1, 2, 3, 4)]
    hook.before_train_iter(runner, 0, {"inputs": IMAGES})
    assert hook.block == 1 + scores.index(max(scores))
    for block in (1, 2):
        hook.block, hook.threshold = block, scores[block - 1] + 1e-3
        hook.after_train_iter(runner, 0, {"inputs": IMAGES})
        assert hook.block == block
        hook.threshold = scores[block - 1] - 1e-3
        hook.after_train_iter(runner, 0, {"inputs": IMAGES})
        assert hook.block == block + 1
    # Naive: the mapped patches of four images against those after the block.
    inputs = model.data_preprocessor({"inputs": IMAGES[:4]}, False)["inputs"]
    model.eval()
    with torch.no_grad():
        mapped = model.predict_tokens(model.student(inputs))["patches"].flatten(0, 1)
        level = model.teacher.backbone.levels(inputs, [2])[0].patches.flatten(0, 1)
    assert hook._cka(runner, {"inputs": IMAGES}, 3) == pytest.approx(float(linear_cka(mapped, level)), abs=1e-6)


def test_the_mean_over_students_counts() -> None:
    torch.manual_seed(0)
    model = MultiStudentDistiller(TEACHER, {"a": ONE, "b": {**ONE, "student": {**ONE["student"], "embed_dim": 48}}})
    hook = TeacherDepthHook(images=4)
    found = hook._cka(fake_runner(model), {"inputs": IMAGES}, 2)
    each = [
        hook._cka(
            fake_runner(SimpleNamespace(
                teacher=model.teacher, distillers={"": one}, data_preprocessor=model.data_preprocessor,
                modules=one.modules,
            )),
            {"inputs": IMAGES},
            2,
        )
        for one in model.distillers.values()
    ]  # fmt: skip
    assert found == pytest.approx(sum(each) / 2, abs=1e-6)


def test_each_of_several_students_learns_from_the_block_as_it_would_alone() -> None:
    torch.manual_seed(0)
    found, block = stepped(MultiStudentDistiller(TEACHER, {"first": ONE, "second": ONE}))
    expected, block_alone = stepped(built())
    assert block == block_alone == 3
    for name in ("first", "second"):
        torch.testing.assert_close(found[f"{name}.loss_feature"], expected["loss_feature"], atol=1e-5, rtol=1e-5)
        for key, value in expected.items():
            if not key.startswith("loss"):
                torch.testing.assert_close(found[f"students.{name}.{key}"], value, atol=1e-5, rtol=1e-5)


RANK = """
from test_teacher_depth import IMAGES, built, fake_runner, stepped
from proteus.engine import DataParallel
from proteus.engine.hooks import TeacherDepthHook

own = slice(4 * rank, 4 * rank + 4)
cka = TeacherDepthHook()._cka(fake_runner(built()), {"inputs": IMAGES[own]}, 2)
model = built()
result = cka, *stepped(model, DataParallel(model), own)
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return on_two_ranks(RANK, __file__, tmp_path_factory.mktemp("ranks"))


@pytest.mark.slow
def test_two_ranks_decide_alike(ranks: tuple[Any, Any]) -> None:
    found = [each[0] for each in ranks]
    assert found[0] == found[1]
    halves = [TeacherDepthHook()._cka(fake_runner(built()), {"inputs": half}, 2) for half in IMAGES.split(4)]
    assert found[0] == pytest.approx(sum(halves) / 2, abs=1e-5)


@pytest.mark.slow
def test_two_ranks_learn_from_the_block_as_one(ranks: tuple[Any, Any]) -> None:
    expected, block = stepped(built())
    (_, first, first_block), (_, second, second_block) = ranks
    assert first_block == second_block == block == 3
    assert first.keys() == second.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            (first[name] + second[name]) / 2, value, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_what_is_refused() -> None:
    hook, model = TeacherDepthHook(), built()
    with pytest.raises(UserError, match="cache holds its last block only"):
        hook.before_train(fake_runner(model, dataset=SimpleNamespace(cache="x")))
    model.teacher.compiled = True
    standardized = built(standardization=dict(type="PHIStandardization"))
    with pytest.raises(UserError, match=r"model\.standardization has the statistics of the last block only"):
        hook.before_train(fake_runner(standardized))
    several = MultiTeacherDistiller(
        {name: dict(teacher=TEACHER, objectives=ONE["objectives"]) for name in ("a", "b")}, ONE["student"]
    )
    one = MultiTeacherDistiller({"a": dict(teacher=TEACHER, objectives=ONE["objectives"])}, ONE["student"])
    for named in (several, one):
        with pytest.raises(UserError, match=r"the hook stops model\.teacher, and the run has model\.teachers"):
            hook.before_train(fake_runner(named))
    with pytest.raises(UserError, match=r"write model\.teacher\.compile=False"):
        hook.before_train(fake_runner(model))
    with pytest.raises(UserError, match="not a Distiller"):
        hook.before_train(fake_runner(torch.nn.Identity()))
    teacher = dict(type="Teacher", backbone=dict(type="TimmBackbone", arch="resnet10t", img_size=28))
    token = dict(token=dict(type="TokenObjective"))
    with pytest.raises(UserError, match=r"the teacher \(TimmBackbone\) gives its last features only"):
        hook.before_train(fake_runner(Distiller(teacher, ONE["student"], token)))
    other = {**SIZE, "patch_size": 7, "embed_dim": 24, "num_heads": 3, "depth": 1}
    assert 0 <= hook._cka(fake_runner(Distiller(TEACHER, other, token)), {"inputs": IMAGES}, 1) <= 1  # on one grid
    with pytest.raises(UserError, match="teacher_depth is 'x'"):
        hook.after_load_checkpoint(SimpleNamespace(_resume=True), {"teacher_depth": "x"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="write threshold and max_share above 0 and up to 1"):
        TeacherDepthHook(threshold=0)
