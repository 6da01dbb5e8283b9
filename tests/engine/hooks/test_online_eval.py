"""The watched run is, bit for bit, the run that nobody watched; and what online evaluation says of several kinds of runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from runs import write_images
from torch import nn

from proteus.engine.hooks import CorruptProxySetError, OnlineEvalHook
from proteus.engine.hooks.stop_on_nan import DivergedError
from proteus.evaluation.online.jsonl_log import read_jsonl
from proteus.structures import DataError

Make = Callable[..., Runner]
EMA = [{"type": "EMAHook", "momentum": 0.1}]
# Drop path draws in each step, and a watch that drew from the same stream would shift it.
DRAWING = {"model__student__drop_path_rate": 0.2, "default_hooks__checkpoint__interval": 2}
WATCH = "default_hooks__online_eval"


def journal(runner: Runner) -> list[dict[str, Any]]:
    return read_jsonl(Path(runner.work_dir) / "online_eval.jsonl")


def trained(runner: Runner) -> Runner:
    runner.train()
    return runner


def said(runner: Runner) -> str:
    """What the runner's log file holds."""
    for handler in runner.logger.handlers:
        handler.flush()
    files = [handler.baseFilename for handler in runner.logger.handlers if isinstance(handler, logging.FileHandler)]
    return Path(files[0]).read_text()


def assert_same_state(found: Runner, wanted: Runner, name: str = "iter_5.pth") -> None:
    ours, theirs = (torch.load(Path(runner.work_dir) / name, weights_only=False) for runner in (found, wanted))
    assert {"state_dict", "ema_state_dict", "optimizer", "param_schedulers"} <= theirs.keys()
    for part in ("state_dict", "ema_state_dict", "optimizer", "param_schedulers"):
        assert_equal(ours[part], theirs[part], part)


def assert_equal(found: Any, wanted: Any, name: str) -> None:
    if isinstance(wanted, torch.Tensor):
        assert torch.equal(found, wanted), name
    elif isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), name
        for key in wanted:
            assert_equal(found[key], wanted[key], f"{name}.{key}")
    elif isinstance(wanted, (list, tuple)):
        assert len(found) == len(wanted), name
        for position, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_equal(one, other, f"{name}[{position}]")
    else:
        assert found == wanted, name


@pytest.mark.slow
def test_the_run_is_what_it_is_without(make_runner: Make, tmp_path: Path) -> None:
    alone = trained(make_runner("alone", EMA, **DRAWING, **{WATCH: None}))
    labelled = {f"{WATCH}__knn__data_root": str(tmp_path / "images"), f"{WATCH}__knn__ks": (3,)}
    watched = trained(make_runner("watched", EMA, **DRAWING, **labelled, **{f"{WATCH}__interval": 1}))
    assert not (Path(alone.work_dir) / "online_eval.jsonl").exists()
    assert [line["iteration"] for line in journal(watched)] == [0, 1, 2, 3, 4, 5]
    assert_same_state(watched, alone)

    # Resumed from where the run that nobody watched was, with online evaluation; its lines beyond that are made again.
    resume = {"resume": True, "load_from": str(Path(alone.work_dir) / "iter_2.pth")}
    resumed = make_runner("resumed", EMA, **DRAWING, **labelled, **resume, **{f"{WATCH}__interval": 1})
    (Path(resumed.work_dir) / "online_eval.jsonl").write_text(
        (Path(watched.work_dir) / "online_eval.jsonl").read_text()
    )
    trained(resumed)
    assert_same_state(resumed, alone)
    lines, wanted = ([{**line, "seconds": 0} for line in journal(runner)] for runner in (resumed, watched))
    assert [line["iteration"] for line in lines] == [0, 1, 2, 3, 4, 5]
    assert lines == wanted


@pytest.mark.slow
def test_nor_does_it_draw_from_the_runs_random_numbers(make_runner: Make) -> None:
    # Without a seed in each step, drop path goes on where the last number was drawn.
    drawing = {**DRAWING, "default_hooks__seed": None}
    alone = trained(make_runner("alone", EMA, **drawing, **{WATCH: None}))
    watched = trained(make_runner("watched", EMA, **drawing, **{f"{WATCH}__interval": 1}))
    assert_same_state(watched, alone)


@pytest.mark.slow
def test_batch_norm_is_not_touched(make_runner: Make) -> None:
    pytest.importorskip("mmpretrain")
    student = {"type": "mmpretrain.ResNet", "depth": 18, "base_channels": 8, "stem_channels": 8, "expansion": 1}
    cnn = {
        "model__student": {"_delete_": True, **student},
        "model__objectives__patch": None,
        "model__objectives__feature": None,
        "default_hooks__checkpoint__interval": 5,
        "default_hooks__export": None,
    }
    alone = trained(make_runner("alone", EMA, **cnn, **{WATCH: None}))
    watched = trained(make_runner("watched", EMA, **cnn, **{f"{WATCH}__interval": 2}))
    assert_same_state(watched, alone)
    last = journal(watched)[-1]
    assert {"trained_on/centered_cosine_cls", "trained_on/effective_rank_patch_student"} <= last.keys()
    assert "trained_on/centered_cosine_patch" not in last
    assert "centered_cosine_patch: no objective predicts" in said(watched)


def test_figures_log_and_scalars(make_runner: Make) -> None:
    runner = make_runner(train_cfg__max_iters=3, **{f"{WATCH}__interval": 2})
    scalars: list[tuple[int, dict[str, float]]] = []
    runner.visualizer.add_scalars = lambda values, step, **_: scalars.append((step, values))
    trained(runner)
    lines = journal(runner)
    assert [line["iteration"] for line in lines] == [0, 2, 3]  # before, at the interval, and after the last
    # The small config validates on images that it trains on, and says so.
    names = {f"centered_cosine_{kind}" for kind in ("cls", "patch")}
    names |= {f"effective_rank_{kind}_{who}" for kind in ("cls", "patch") for who in ("student", "teacher")}
    names |= {f"unexplained_variance_{name}" for name in ("token", "feature", "patch")}
    assert set(lines[-1]) == {"iteration", "seconds"} | {f"trained_on/{name}" for name in names}
    watched = {step: values for step, values in scalars if any(name.startswith("online_eval/") for name in values)}
    assert watched[3] == {f"online_eval/trained_on/{name}": lines[-1][f"trained_on/{name}"] for name in names}
    log = said(runner)
    assert "online eval: 10 images, 10 of which are trained on" in log  # as many as there are, of the 1,024 asked for
    assert (
        log.count("online eval leaves out k-NN (no labelled images; set default_hooks.online_eval.knn.data_root") == 1
    )
    assert "online eval [3/3]" in log
    assert "% of the run so far" in log
    # What online evaluation took is not counted as waiting for data.
    waits = runner.message_hub.get_scalar("train/data_time").data[0]
    assert waits[2] < lines[1]["seconds"] + waits[1]


def test_held_out_images_and_an_interval_that_is_not_reached(make_runner: Make) -> None:
    split = {f"{loader}_dataloader__dataset__split": side for loader, side in (("train", "train"), ("val", "held-out"))}
    runner = trained(make_runner(train_cfg__max_iters=1, **split, val_dataloader__dataset__indices=None))
    assert [line["iteration"] for line in journal(runner)] == [0, 1]
    assert "centered_cosine_cls" in journal(runner)[0]
    assert "held-out images, every 2,500 iterations" in said(runner)


def test_without_a_validation_set(make_runner: Make) -> None:
    none = {"val_dataloader": None, "val_cfg": None, "val_evaluator": None}
    runner = trained(make_runner(train_cfg__max_iters=1, **none, **{f"{WATCH}__images": 6}))
    assert "trained_on/centered_cosine_patch" in journal(runner)[-1]
    assert "6 images, 6 of which are trained on" in said(runner)


def test_nearest_neighbours_of_a_labelled_folder(make_runner: Make, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "labelled", 12)
    knn = {f"{WATCH}__knn__data_root": str(folder), f"{WATCH}__knn__ks": (3, 20)}
    runner = trained(make_runner(train_cfg__max_iters=1, **knn))
    first, last = journal(runner)
    assert "knn_3" in first
    assert "knn_20" not in first  # there are eleven others
    assert 0 <= last["knn_3"] <= 100
    assert first["knn_3_teacher"] == last["knn_3_teacher"]
    assert "k-NN of 12 images of 2 classes" in said(runner)

    bad = sorted(folder.rglob("*.jpg"))[2]
    bad.write_bytes(b"no image")
    with pytest.raises(CorruptProxySetError, match=rf"online_eval\.knn\.data_root: .*{bad.name}"):
        make_runner("corrupt", **knn).train()
    with pytest.raises(FileNotFoundError, match=r"online_eval\.knn\.data_root: no folder .*nowhere"):
        make_runner("missing", **{f"{WATCH}__knn__data_root": str(tmp_path / "nowhere")}).train()


def test_an_unreadable_validation_image_is_named_and_left_out(make_runner: Make, tmp_path: Path) -> None:
    bad = sorted((tmp_path / "images").rglob("*.jpg"))[1]
    bad.write_bytes(b"no image")
    stop = {"default_hooks__corrupt_images__max_share": 0.5, "val_dataloader__dataset__indices": None}
    runner = trained(make_runner(train_cfg__max_iters=1, **stop))
    assert f"online eval: cannot be read and is left out: {bad}" in said(runner)
    assert "online eval: 15 images" in said(runner)


def test_figures_that_are_not_numbers_are_null_in_the_journal(make_runner: Make) -> None:
    """The first parameter is the mask token, which the first look at the student meets before a step is taken."""
    runner = make_runner(train_cfg__max_iters=1, **{f"{WATCH}__interval": 1})
    with torch.no_grad():
        next(runner.model.student.parameters()).fill_(torch.nan)
    with pytest.raises(DivergedError):
        trained(runner)
    assert journal(runner)[-1]["trained_on/unexplained_variance_patch"] is None
    assert "has the run diverged?" in said(runner)


def test_agreement_on_one_validation_image_is_refused_at_start(make_runner: Make) -> None:
    runner = make_runner(val_dataloader__dataset__indices=1)
    with pytest.raises(DataError, match=r"val_dataloader\.dataset has 1 image, and TeacherAgreement compares two"):
        trained(runner)


def test_a_model_that_distils_nothing_is_left_alone(make_runner: Make) -> None:
    class Plain(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, inputs: torch.Tensor, mode: str = "loss", **_: Any) -> dict[str, torch.Tensor]:
            return {"loss": self.layer(inputs.float().mean((2, 3))).square().mean()}

    hooks = {"default_hooks__strict_checkpoint": None, "default_hooks__export": None}
    none = {"val_dataloader": None, "val_cfg": None, "val_evaluator": None}
    runner = make_runner(train_cfg__max_iters=1, **none, **hooks)
    runner.model = Plain()
    assert "Plain is no Distiller" in said(trained(runner))
    assert journal(runner) == []


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"interval": 0}, r"OnlineEvalHook\(interval=0"),
        ({"images": 1}, "images=1"),
        ({"knn": {"k": 20}}, r"online_eval\.knn has no key 'k': write some of data_root, .*ks"),
    ],
)
def test_bad_options(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OnlineEvalHook(**option)


def test_several_students_are_watched_one_by_one(make_runner: Make, multi_student: dict[str, Any]) -> None:
    values = {"train_cfg__max_iters": 1, f"{WATCH}__knn": dict(data_root=None)}
    together = trained(make_runner("together", model=multi_student, **values))
    alone = trained(make_runner("alone", **values))
    found, wanted = journal(together)[0], journal(alone)[0]
    assert set(found) == {"iteration", "seconds"} | {
        f"trained_on/{name}.{figure.removeprefix('trained_on/')}"
        for name in ("tiny", "small")
        for figure in wanted
        if figure not in ("iteration", "seconds")
    }
    # The small one is the small recipe's own student, before a first step in which both do as they did alone.
    for figure, value in wanted.items():
        if figure not in ("iteration", "seconds"):
            assert found[figure.replace("trained_on/", "trained_on/small.")] == pytest.approx(value, rel=1e-5), figure
    assert said(together).count("online eval leaves out") == said(alone).count("online eval leaves out") == 1
