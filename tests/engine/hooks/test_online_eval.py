"""Online evaluation: training is bit for bit the same with it, and its metrics for several kinds of runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from runs import write_images
from torch import nn
from torch.utils.data import Dataset

from proteus.apis import load_config
from proteus.engine.hooks import CorruptProxySetError, OnlineEvalHook
from proteus.engine.hooks.stop_on_nan import DivergedError
from proteus.evaluation.online.jsonl_log import read_jsonl
from proteus.evaluation.online.probe_images import ProbeImages
from proteus.structures import DataError


class RandomImages(Dataset):
    """A data set of someone else's, larger than the training images."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.rand(3, 84, 84)


Make = Callable[..., Runner]
EMA = [{"type": "EMAHook", "momentum": 0.1}]
# Drop path draws random numbers in each step; an evaluation that drew from the same stream would shift them.
RANDOM = {"model__student__drop_path_rate": 0.2, "default_hooks__checkpoint__interval": 2}
ONLINE_EVAL = "default_hooks__online_eval"


def read_log(runner: Runner) -> list[dict[str, Any]]:
    return read_jsonl(Path(runner.work_dir) / "online_eval.jsonl")


def trained(runner: Runner) -> Runner:
    runner.train()
    return runner


def log_text(runner: Runner) -> str:
    """Read the runner's log file."""
    for handler in runner.logger.handlers:
        handler.flush()
    files = [handler.baseFilename for handler in runner.logger.handlers if isinstance(handler, logging.FileHandler)]
    return Path(files[0]).read_text()


def assert_same_state(found: Runner, wanted: Runner, name: str = "iter_5.pth") -> None:
    ours, reference = (torch.load(Path(runner.work_dir) / name, weights_only=False) for runner in (found, wanted))
    assert {"state_dict", "ema_state_dict", "optimizer", "param_schedulers"} <= reference.keys()
    for part in ("state_dict", "ema_state_dict", "optimizer", "param_schedulers"):
        assert_equal(ours[part], reference[part], part)


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
def test_checkpoints_are_the_same_with_and_without_online_evaluation(make_runner: Make, tmp_path: Path) -> None:
    plain = trained(make_runner("plain", EMA, **RANDOM, **{ONLINE_EVAL: None}))
    labelled = {f"{ONLINE_EVAL}__knn__data_root": str(tmp_path / "images"), f"{ONLINE_EVAL}__knn__ks": (3,)}
    evaluated = trained(make_runner("evaluated", EMA, **RANDOM, **labelled, **{f"{ONLINE_EVAL}__interval": 1}))
    assert not (Path(plain.work_dir) / "online_eval.jsonl").exists()
    assert [line["iteration"] for line in read_log(evaluated)] == [0, 1, 2, 3, 4, 5]
    assert_same_state(evaluated, plain)

    # Resume the plain run with online evaluation; later lines of the log are written again.
    resume = {"resume": True, "load_from": str(Path(plain.work_dir) / "iter_2.pth")}
    resumed = make_runner("resumed", EMA, **RANDOM, **labelled, **resume, **{f"{ONLINE_EVAL}__interval": 1})
    (Path(resumed.work_dir) / "online_eval.jsonl").write_text(
        (Path(evaluated.work_dir) / "online_eval.jsonl").read_text()
    )
    trained(resumed)
    assert_same_state(resumed, plain)
    lines, wanted = ([{**line, "seconds": 0} for line in read_log(runner)] for runner in (resumed, evaluated))
    assert [line["iteration"] for line in lines] == [0, 1, 2, 3, 4, 5]
    assert lines == wanted


@pytest.mark.slow
def test_online_evaluation_does_not_advance_the_random_state(make_runner: Make) -> None:
    # Without a seed per step, drop path continues the random stream.
    random = {**RANDOM, "default_hooks__seed": None}
    plain = trained(make_runner("plain", EMA, **random, **{ONLINE_EVAL: None}))
    evaluated = trained(make_runner("evaluated", EMA, **random, **{f"{ONLINE_EVAL}__interval": 1}))
    assert_same_state(evaluated, plain)


@pytest.mark.slow
def test_batch_norm_statistics_do_not_change(make_runner: Make) -> None:
    pytest.importorskip("mmpretrain")
    student = {"type": "mmpretrain.ResNet", "depth": 18, "base_channels": 8, "stem_channels": 8, "expansion": 1}
    cnn = {
        "model__student": {"_delete_": True, **student},
        "model__objectives__patch": None,
        "model__objectives__feature": None,
        "default_hooks__checkpoint__interval": 5,
        "default_hooks__export": None,
    }
    plain = trained(make_runner("plain", EMA, **cnn, **{ONLINE_EVAL: None}))
    evaluated = trained(make_runner("evaluated", EMA, **cnn, **{f"{ONLINE_EVAL}__interval": 2}))
    assert_same_state(evaluated, plain)
    last = read_log(evaluated)[-1]
    assert {"trained_on/centered_cosine_cls", "trained_on/effective_rank_patch_student"} <= last.keys()
    assert "trained_on/centered_cosine_patch" not in last
    assert "centered_cosine_patch (no objective predicts" in log_text(evaluated)


def test_metrics_in_file_log_and_visualizer(make_runner: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock that stands still, but for 100 seconds per evaluation.
    clock, compute = [1e9], OnlineEvalHook._compute

    def compute_slowly(self: OnlineEvalHook, *arguments: Any) -> dict[str, float]:
        clock[0] += 100
        return compute(self, *arguments)

    monkeypatch.setattr(OnlineEvalHook, "_compute", compute_slowly)
    monkeypatch.setattr(time, "time", lambda: clock[0])
    runner = make_runner(train_cfg__max_iters=3, **{f"{ONLINE_EVAL}__interval": 2})
    scalars: list[tuple[int, dict[str, float]]] = []
    runner.visualizer.add_scalars = lambda values, step, **_: scalars.append((step, values))
    trained(runner)
    lines = read_log(runner)
    assert [line["iteration"] for line in lines] == [
        0,
        2,
        3,
    ]  # before the first, at the interval, and after the last iteration
    # The small config validates on training images.
    names = {f"centered_cosine_{kind}" for kind in ("cls", "patch")}
    names |= {f"effective_rank_{kind}_{who}" for kind in ("cls", "patch") for who in ("student", "teacher")}
    names |= {f"unexplained_variance_{name}" for name in ("token", "feature", "patch")}
    assert set(lines[-1]) == {"iteration", "seconds"} | {f"trained_on/{name}" for name in names}
    logged = {step: values for step, values in scalars if any(name.startswith("online_eval/") for name in values)}
    assert logged[3] == {f"online_eval/trained_on/{name}": lines[-1][f"trained_on/{name}"] for name in names}
    log = log_text(runner)
    assert (
        "online evaluation: 10 images, 10 of which are trained on" in log
    )  # all there are, fewer than the default of 1,024
    assert (
        log.count("online evaluation without k-NN (no labelled images; set default_hooks.online_eval.knn.data_root")
        == 1
    )
    assert "online evaluation [3/3]" in log
    assert "% of the run so far" in log
    # The time of online evaluation is not counted as data time.
    assert clock[0] == 1e9 + 300
    assert runner.message_hub.get_scalar("train/data_time").data[0].tolist() == [0, 0, 0]


def test_held_out_images_and_an_interval_longer_than_the_run(make_runner: Make) -> None:
    split = {f"{loader}_dataloader__dataset__split": side for loader, side in (("train", "train"), ("val", "held-out"))}
    runner = trained(make_runner(train_cfg__max_iters=1, **split, val_dataloader__dataset__indices=None))
    assert [line["iteration"] for line in read_log(runner)] == [0, 1]
    assert "centered_cosine_cls" in read_log(runner)[0]
    assert "held-out images, every 2,500 iterations" in log_text(runner)


@pytest.mark.parametrize("kind", ["ImageFolder", "FixedViews"])
def test_without_a_validation_set(make_runner: Make, tmp_path: Path, kind: str) -> None:
    none = {"val_dataloader": None, "val_cfg": None, "val_evaluator": None}
    settings: dict[str, Any] = {f"{ONLINE_EVAL}__images": 6, f"{ONLINE_EVAL}__knn": None}
    if kind == "FixedViews":
        images = load_config(tmp_path / "small.py").train_dataloader.dataset.to_dict()
        settings["train_dataloader__dataset"] = {"_delete_": True, "type": kind, "views": 2, "dataset": images}
    runner = trained(make_runner(train_cfg__max_iters=1, **none, **settings))
    assert "trained_on/centered_cosine_patch" in read_log(runner)[-1]
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, OnlineEvalHook))
    assert hook.probe_images is not None
    assert hook.probe_images.masks is not None
    assert "6 images, 6 of which are trained on" in log_text(runner)
    # k-NN, which is disabled, is not called missing.
    assert "knn.data_root" not in log_text(runner)


def test_knn_of_a_labelled_folder(make_runner: Make, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "labelled", 12)
    knn = {f"{ONLINE_EVAL}__knn__data_root": str(folder), f"{ONLINE_EVAL}__knn__ks": (3, 20)}
    runner = trained(make_runner(train_cfg__max_iters=1, **knn))
    first, last = read_log(runner)
    assert "knn_3" in first
    assert "knn_20" not in first  # there are eleven neighbours
    assert 0 <= last["knn_3"] <= 100
    assert first["knn_3_teacher"] == last["knn_3_teacher"]
    assert "k-NN on 12 images of 2 classes" in log_text(runner)

    bad = sorted(folder.rglob("*.jpg"))[2]
    bad.write_bytes(b"no image")
    with pytest.raises(CorruptProxySetError, match=rf"online_eval\.knn\.data_root: .*{bad.name}"):
        make_runner("corrupt", **knn).train()
    with pytest.raises(FileNotFoundError, match=r"online_eval\.knn\.data_root: .*nowhere"):
        make_runner("missing", **{f"{ONLINE_EVAL}__knn__data_root": str(tmp_path / "nowhere")}).train()


@pytest.mark.parametrize(
    "student",
    [
        {"type": "TimmBackbone", "arch": "test_resnet"},
        {"type": "mmpretrain.ResNet", "depth": 18, "base_channels": 8, "stem_channels": 8, "expansion": 1},
    ],
    ids=["timm", "mmpretrain"],
)
def test_knn_of_a_cnn_is_at_the_size_of_its_training_images(
    make_runner: Make, tmp_path: Path, student: dict[str, Any]
) -> None:
    """Without a validation set of ours the pipeline is not its own, and a CNN does not say at which size it trains."""
    if student["type"].startswith("mmpretrain"):
        pytest.importorskip("mmpretrain")
    folder = write_images(tmp_path / "labelled", 8)
    runner = make_runner(
        train_cfg__max_iters=1,
        model__student={"_delete_": True, **student},
        model__objectives__patch=None,
        model__objectives__feature=None,
        default_hooks__export=None,
        val_dataloader__dataset={"_delete_": True, "type": RandomImages},
        **{f"{ONLINE_EVAL}__knn__data_root": str(folder), f"{ONLINE_EVAL}__knn__ks": (3,)},
    )
    trained(runner)
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, OnlineEvalHook))
    assert hook.knn_images is not None
    assert hook.knn_images.pixels.shape[-2:] == (56, 56)


def test_an_unreadable_validation_image_is_skipped_with_a_warning(make_runner: Make, tmp_path: Path) -> None:
    bad = sorted((tmp_path / "images").rglob("*.jpg"))[1]
    bad.write_bytes(b"no image")
    stop = {"default_hooks__corrupt_images__max_share": 0.5, "val_dataloader__dataset__indices": None}
    runner = trained(make_runner(train_cfg__max_iters=1, **stop))
    assert f"online evaluation: skipping an unreadable image: {bad}" in log_text(runner)
    assert "online evaluation: 15 images" in log_text(runner)


def test_metrics_that_are_not_finite_are_null_in_the_log(make_runner: Make) -> None:
    """The first parameter, the mask token, is NaN in the evaluation before the first iteration."""
    runner = make_runner(train_cfg__max_iters=1, **{f"{ONLINE_EVAL}__interval": 1})
    with torch.no_grad():
        next(runner.model.student.parameters()).fill_(torch.nan)
    with pytest.raises(DivergedError):
        trained(runner)
    assert read_log(runner)[-1]["trained_on/unexplained_variance_patch"] is None
    assert "has the run diverged?" in log_text(runner)


def test_agreement_on_one_validation_image_raises_at_the_start(make_runner: Make) -> None:
    runner = make_runner(val_dataloader__dataset__indices=1)
    with pytest.raises(DataError, match=r"val_dataloader\.dataset has 1 image, but TeacherAgreement needs"):
        trained(runner)


def test_other_models_disable_online_evaluation(make_runner: Make) -> None:
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
    assert "online evaluation disabled: the model is not a Distiller" in log_text(trained(runner))
    assert read_log(runner) == []


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"interval": 0}, r"OnlineEvalHook\(interval=0"),
        ({"images": 1}, "images=1"),
        ({"knn": {"k": 20}}, r"unknown key default_hooks\.online_eval\.knn\.k; choose from data_root, .*ks"),
    ],
)
def test_invalid_options_raise(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OnlineEvalHook(**option)


def test_each_of_several_students_is_evaluated(make_runner: Make, multi_student: dict[str, Any]) -> None:
    values = {"train_cfg__max_iters": 1, f"{ONLINE_EVAL}__knn": dict(data_root=None)}
    together = trained(make_runner("together", model=multi_student, **values))
    plain = trained(make_runner("plain", **values))
    found, wanted = read_log(together)[0], read_log(plain)[0]
    assert set(found) == {"iteration", "seconds"} | {
        f"trained_on/{name}.{metric.removeprefix('trained_on/')}"
        for name in ("tiny", "small")
        for metric in wanted
        if metric not in ("iteration", "seconds")
    }
    # Before the first step the student "small" equals the single student.
    for metric, value in wanted.items():
        if metric not in ("iteration", "seconds"):
            assert found[metric.replace("trained_on/", "trained_on/small.")] == pytest.approx(value, rel=1e-5), metric
    assert (
        log_text(together).count("online evaluation without") == log_text(plain).count("online evaluation without") == 1
    )


def test_k_nn_of_a_student_of_several_teachers_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    networks: list[Any] = []

    def accuracy(model: Any, network: Any, **options: Any) -> dict[str, float]:
        networks.append(network)
        return {"knn_3": float(len(networks))}

    class Network:
        embed_dim = 4

    monkeypatch.setattr("proteus.engine.hooks.online_eval.knn_accuracy", accuracy)
    student, first, second = Network(), Network(), Network()
    hook = OnlineEvalHook()
    hook.knn_images = ProbeImages(torch.zeros(4, 3, 1, 1), [])
    pairs: list[Any] = [SimpleNamespace(teacher=teacher, student=student) for teacher in (first, second)]
    found = [hook._knn(pair, 8) for pair in pairs]
    assert networks == [first, student, second]
    assert found == [{"knn_3": 2.0, "knn_3_teacher": 1.0}, {"knn_3": 2.0, "knn_3_teacher": 3.0}]
