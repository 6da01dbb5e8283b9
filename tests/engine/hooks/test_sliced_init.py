from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import Runner

from proteus.apis import load_config
from proteus.datasets import ImageFolder, SampleKey
from proteus.engine.hooks import CorruptImageHook, CorruptProxySetError, SlicedInitHook, sliced_init
from proteus.structures import UserError

Make = Callable[..., Runner]
START = [{"type": "SlicedInitHook", "views": 40, "batch_size": 16}]


def started(runner: Runner) -> Runner:
    runner.model.train()
    runner.call_hook("before_train")
    return runner


def weights(runner: Runner) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in runner.model.state_dict().items()}


def unexplained_variance(runner: Runner) -> float:
    """Compute the fraction of variance unexplained of the teacher's patch tokens on the training images."""
    model = runner.model.eval()
    batch = model.data_preprocessor(next(iter(runner.build_dataloader(runner._train_dataloader))))
    with torch.no_grad():
        wanted = model.teacher(batch["inputs"]).patches
        found = model.predict_tokens(model.student(batch["inputs"]))["patches"]
        return ((found - wanted).square().sum() / (wanted - wanted.mean((0, 1))).square().sum()).item()


def test_training_starts_near_the_teacher(make_runner: Make) -> None:
    plain, sliced = started(make_runner("plain")), started(make_runner("sliced", START))
    assert unexplained_variance(sliced) < 0.5
    assert unexplained_variance(plain) > 1.0
    before = weights(sliced)
    sliced.model.train()
    sliced.train()  # the hook does not initialize again
    assert sliced.iter == 5
    assert not torch.equal(weights(sliced)["student.vit.cls_token"], before["student.vit.cls_token"])


def test_a_student_with_rotary_positions_starts_near_its_teacher(make_runner: Make, tmp_path: Path) -> None:
    model = load_config(tmp_path / "small.py").model.to_dict()
    dinov3 = {"type": "TimmBackbone", "arch": "vit_small_patch16_dinov3_qkvb", "img_size": 56, "patch_size": 14}
    dinov3 |= {"depth": 2, "init_values": 0.5}
    model["teacher"]["backbone"] = {**dinov3, "embed_dim": 64, "num_heads": 4}
    model["student"] = {**dinov3, "embed_dim": 32, "num_heads": 2, "mask_colour": "mean"}
    runner = started(make_runner("rotary", START, model={"_delete_": True, **model}))
    assert unexplained_variance(runner) < 0.5
    runner.model.train()
    runner.train()
    assert runner.iter == 5


def test_a_teacher_of_one_image_size(make_runner: Make, tmp_path: Path) -> None:
    """It is sliced at the size of the student, and encodes resized images where ``model.teacher.img_size`` says so."""
    model = load_config(tmp_path / "small.py").model.to_dict()
    dinov3 = {"type": "TimmBackbone", "arch": "vit_small_patch16_dinov3_qkvb", "patch_size": 14, "depth": 2}
    large = {"embed_dim": 64, "num_heads": 4, "img_size": 112, "dynamic_img_size": False, "init_values": 0.5}
    model["teacher"]["backbone"] = {**dinov3, **large}
    model["student"] = {**dinov3, "embed_dim": 32, "num_heads": 2, "img_size": 56, "mask_colour": "mean"}
    with pytest.raises(
        UserError, match=r"takes images of 112 px alone, .* with 56 px; .* model\.teacher\.img_size=112"
    ):
        started(make_runner("refused", START, model={"_delete_": True, **model}))
    model["teacher"]["img_size"] = 112
    started(make_runner("resized", START, model={"_delete_": True, **model}))


def test_the_initialization_does_not_depend_on_the_seed(make_runner: Make) -> None:
    one, other = (weights(started(make_runner(f"seed{s}", START, randomness__seed=s))) for s in (0, 1))
    for name, value in one.items():
        assert torch.equal(other[name], value), name


def test_student_heads_and_training_see_different_views(make_runner: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def spy(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            seen.extend(arg for arg in args if isinstance(arg, torch.Tensor))
            return real(*args, **options)

        return call

    for name in ("slice_teacher", "fit_heads"):
        monkeypatch.setattr(sliced_init, name, spy(getattr(sliced_init, name)))
    runner = started(make_runner("seen", START))
    dataset = runner.train_dataloader.dataset
    collated = runner.train_dataloader.collate_fn([dataset[SampleKey(0, 0, k)] for k in range(len(dataset))])
    seen.append(runner.model.data_preprocessor(collated)["inputs"])
    assert [len(images) for images in seen] == [40, 40, len(dataset)]
    every = torch.cat(seen).flatten(1)
    assert len(every.unique(dim=0)) == len(every)


def test_the_workers_of_the_training_loader_read_the_views(make_runner: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    process, read = os.getpid(), ImageFolder.read

    def read_elsewhere(*args: Any) -> dict[str, Any]:
        assert os.getpid() != process
        return read(*args)

    alone = started(make_runner("alone", START, default_hooks__online_eval=None))
    options = {"train_dataloader__num_workers": 2, "default_hooks__online_eval": None}
    with monkeypatch.context() as patch:
        patch.setattr(ImageFolder, "read", read_elsewhere)
        runner = started(make_runner("workers", START, **options))
    for name, value in weights(alone).items():
        assert torch.equal(weights(runner)[name], value), name


def test_unreadable_images_are_counted_before_the_fit(
    make_runner: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = sorted((tmp_path / "images").rglob("*.png"))[0]
    broken.write_bytes(b"")
    runner = make_runner("counted", START, default_hooks__corrupt_images__max_share=0.1)
    started(runner)
    counter = next(hook for hook in runner.hooks if isinstance(hook, CorruptImageHook))
    assert [name.partition(" (")[0] for name in counter.named] == [str(broken)]
    named = set(counter.named)
    runner.train()
    assert counter.named == named  # training finds the same image, under the same name
    (log,) = Path(runner.log_dir).glob("*.log")
    assert log.read_text().count(f"unreadable image replaced: {broken}") == 1

    monkeypatch.setattr(sliced_init, "slice_teacher", None)
    with pytest.raises(CorruptProxySetError, match="1 of 16 images of the proxy set are corrupt, more than"):
        started(make_runner("too_many", START, default_hooks__corrupt_images__few=0))


def test_waiting_ranks_hear_of_the_work_and_of_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    def work(report: Callable[[], None]) -> None:
        report()
        report()
        raise UserError("broken")

    def receive(news: list[Any]) -> None:
        news[:] = [sent.pop(0)]

    monkeypatch.setattr(sliced_init, "broadcast_object_list", sent.extend)
    with pytest.raises(UserError, match="broken"):
        sliced_init._with_news_for_others(work)
    assert len(sent) == 3
    monkeypatch.setattr(sliced_init, "is_main_process", lambda: False)
    monkeypatch.setattr(sliced_init, "broadcast_object_list", receive)
    with pytest.raises(UserError, match="broken"):
        sliced_init._with_news_for_others(work)
    assert not sent


def test_waiting_ranks_hear_of_the_basis_each_block_and_each_batch_of_the_heads(
    make_runner: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    fit = sliced_init.fit_heads

    def fit_heads(*args: Any, **options: Any) -> list[str]:
        sent.append("heads")
        return fit(*args, **options)

    monkeypatch.setattr(sliced_init, "broadcast_object_list", sent.extend)
    monkeypatch.setattr(sliced_init, "fit_heads", fit_heads)
    runner = started(make_runner("news", START))
    news = ["working"] * (1 + runner.model.student.depth)
    assert sent[sent.index("done") + 1 :] == [*news, "heads", *["working"] * 3, "done"]  # 40 views in batches of 16


def test_a_run_with_load_from_keeps_its_weights(make_runner: Make, tmp_path: Path) -> None:
    make_runner("first", START).train()
    checkpoint = torch.load(tmp_path / "first/iter_5.pth", weights_only=False)["state_dict"]
    runner = make_runner("loaded", START, load_from=str(tmp_path / "first/iter_5.pth"))
    runner.load_or_resume()
    started(runner)
    assert all(torch.equal(weights(runner)[key], value) for key, value in checkpoint.items())


def test_a_resumed_run_equals_an_uninterrupted_one(make_runner: Make, tmp_path: Path) -> None:
    unbroken = make_runner("unbroken", START)
    unbroken.train()
    broken = make_runner("broken", START, train_cfg__max_iters=3, default_hooks__checkpoint__interval=3)
    broken.train()
    resumed = make_runner("broken", START, resume=True)
    resumed.train()
    for name, value in weights(unbroken).items():
        assert torch.equal(weights(resumed)[name], value), name


def test_each_of_several_students_is_initialized(make_runner: Make, multi_student: dict[str, Any]) -> None:
    # Heads as wide as the teacher's: 16 of its 64 channels each.
    for name, width in (("tiny", 32), ("small", 48)):
        multi_student["students"][name]["student"] |= {"embed_dim": width, "num_heads": width // 16}
    runner = started(make_runner("several", START, model=multi_student))
    for distiller in runner.model.distillers.values():
        assert distiller.student.mask_token.abs().sum() > 0
        # The component along the ones, which LayerNorm removes, is zero.
        assert distiller.student.vit.pos_embed.sum(-1).abs().max() < 1e-5


def test_a_student_of_several_teachers_becomes_a_slice_of_one(make_runner: Make, multi_teacher: dict[str, Any]) -> None:
    of_one = [{**START[0], "teacher": "one"}]
    alone, several = started(make_runner("alone", START)), started(make_runner("named", of_one, model=multi_teacher))
    for name, value in alone.model.student.state_dict().items():
        assert torch.equal(several.model.student.state_dict()[name], value), name
    # The heads of both are fitted: to images of the training, they predict more than the mean.
    model = several.model.eval()
    images = model.data_preprocessor(next(iter(several.build_dataloader(several._train_dataloader))))["inputs"]
    for name, pair in model.distillers.items():
        with torch.no_grad():
            wanted = pair.teacher(images).cls
            found = pair.predict_tokens(model.student(images))["cls"]
        assert (found - wanted).square().sum() < 0.8 * (wanted - wanted.mean(0)).square().sum(), name


def test_heads_of_several_teachers_are_fitted_without_drop_path(
    make_runner: Make, multi_teacher: dict[str, Any]
) -> None:
    multi_teacher["student"]["drop_path_rate"] = 0.5
    start, options = [{**START[0], "teacher": "one"}], {"model": multi_teacher, "default_hooks__online_eval": None}
    one, other = (weights(started(make_runner(f"seed{s}", start, randomness__seed=s, **options))) for s in (0, 1))
    for name, value in one.items():
        assert torch.equal(other[name], value), name


@pytest.mark.parametrize(
    ("several", "teacher", "message"),
    [
        (True, None, r"SlicedInitHook\.teacher: missing; name the one .*: one, two"),
        (True, "three", r"SlicedInitHook\.teacher: unknown teacher 'three'; name the one .*: one, two"),
        (False, "one", r"SlicedInitHook\.teacher='one': the run has one teacher, without a name"),
    ],
)
def test_the_teacher_to_slice_has_to_be_one_of_several(
    make_runner: Make, multi_teacher: dict[str, Any], several: bool, teacher: str | None, message: str
) -> None:
    model = {"model": multi_teacher} if several else {}
    with pytest.raises(UserError, match=message):
        started(make_runner("named", [{**START[0], "teacher": teacher}], **model))


def test_spread_teachers_are_refused(make_runner: Make, multi_teacher: dict[str, Any]) -> None:
    runner = make_runner("spread", [{**START[0], "teacher": "one"}], model=multi_teacher)
    runner.model.spread_plan = object()
    with pytest.raises(UserError, match=r"remove it, or model\.spread_teachers"):
        started(runner)


def test_a_sharded_teacher_is_refused_whether_or_not_it_is_sliced(
    make_runner: Make, multi_teacher: dict[str, Any]
) -> None:
    for teacher in multi_teacher["teachers"].values():
        del teacher["standardization"]  # its hook, which runs first, would run the teacher
    for name in ("one", "two"):
        runner = make_runner(f"sharded_{name}", [{**START[0], "teacher": "one"}], model=multi_teacher)
        runner.model.distillers[name].teacher.sharded = True  # with one process, shard=True has no effect
        with pytest.raises(UserError, match=rf"write model\.teachers\.{name}\.teacher\.shard=False"):
            started(runner)


def test_an_incompatible_student_raises_before_images_are_read(make_runner: Make) -> None:
    runner = make_runner("registers", START, model__student__reg_tokens=2)
    with pytest.raises(UserError, match=r"keeps the teacher.s reg_tokens, 0, and model\.student has 2"):
        started(runner)


@pytest.mark.parametrize("key", ["views", "batch_size"])
def test_numbers_below_one_raise(key: str) -> None:
    with pytest.raises(ValueError, match=rf"SlicedInitHook.{key}=0"):
        SlicedInitHook(**{key: 0})
