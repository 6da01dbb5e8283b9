"""Checks of classifiers of mmpretrain with our backbones, and of checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inference_runs import CONFIGS
from mmengine.runner import Runner
from PIL import Image

from proteus.apis import load_config
from proteus.apis.training import build_runner
from proteus.checkpoints import CheckpointError
from proteus.engine.hooks import ClassifierCheckHook, StrictCheckpointHook
from proteus.structures import DataError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(6):
        path = tmp_path / "images" / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "images"


@pytest.fixture
def make(images: Path, tmp_path: Path) -> Callable[..., Runner]:
    """Build a runner of the fine-tuning recipe for three classes, with the hook."""
    pytest.importorskip("mmpretrain")
    text = CONFIGS["finetune"].replace("num_classes=7", "num_classes=3")
    path = tmp_path / "config.py"
    loaders = "\n".join(
        f"{split}_dataloader = dict(batch_size=3, num_workers=0, persistent_workers=False, dataset=dict("
        f'data_root="{images}", num_classes=3, pipeline=test_pipeline))'
        for split in ("train", "val", "test")
    )
    rest = "train_cfg = dict(max_iters=1, val_interval=1)\nval_evaluator = test_evaluator = dict(topk=(1,))"
    path.write_text(f"{text}\n{loaders}\n{rest}\n")

    def build(**changes: Any) -> Runner:
        cfg = load_config(path, {key.replace("__", "."): value for key, value in changes.items()})
        cfg.work_dir, cfg.experiment_name = str(tmp_path / "run"), f"{tmp_path.name}-{len(changes)}"
        cfg.visualizer = None
        runner = build_runner(cfg)
        assert any(isinstance(hook, ClassifierCheckHook) for hook in runner.hooks)
        return runner

    return build


def test_a_consistent_config_is_tested(make: Callable[..., Runner]) -> None:
    metrics = make().test()
    assert 0 <= metrics["accuracy/top1"] <= 100


def test_fewer_classes_than_guesses(make: Callable[..., Runner]) -> None:
    runner = make(val_evaluator__topk=(1, 5), test_evaluator__topk=(5, 10))
    runner.train()
    assert runner.val_loop.evaluator.metrics[0].topk == (1,)
    log = next(Path(runner.log_dir).glob("*.log")).read_text()
    assert "val_evaluator.topk = (1, 5) with model.head.num_classes = 3: only top (1,) is computed" in log
    with pytest.raises(DataError, match=r"^test_evaluator\.topk = \(5, 10\), .*write test_evaluator\.topk=\(1,\)$"):
        runner.test()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model__head__in_channels": 48}, r"in_channels = 48, but the backbone gives 32 .*pool = 'cls': write .*=32$"),
        ({"model__neck__pool": "cls+avg"}, r"in_channels = 32, but the backbone gives 64 .*'cls\+avg': write .*=64$"),
    ],
)
def test_a_head_of_another_width_raises(make: Callable[..., Runner], changes: dict[str, Any], words: str) -> None:
    runner = make(**changes)
    with pytest.raises(DataError, match=words):
        ClassifierCheckHook().before_run(runner)


def test_the_head_may_take_the_sum_of_two_widths(make: Callable[..., Runner]) -> None:
    ClassifierCheckHook().before_run(make(model__neck__pool="cls+avg", model__head__in_channels=64))


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("model__head__num_classes", "model.head.num_classes"),
        ("model__head__loss__num_classes", "model.head.loss.num_classes"),
        ("model__data_preprocessor__num_classes", "model.data_preprocessor.num_classes"),
    ],
)
def test_the_error_lists_all_numbers_of_classes(make: Callable[..., Runner], key: str, named: str) -> None:
    runner = make(**{key: 4})
    hook = ClassifierCheckHook()
    for phase, check in (("train", hook.before_train), ("val", hook.before_val), ("test", hook.before_test)):
        with pytest.raises(DataError, match="numbers of classes differ") as error:
            check(runner)
        text = str(error.value)
        assert f"{named} = 4" in text
        assert text.count(" = 3") == 3
        assert f"the folders of {phase}_dataloader.dataset = 3" in text


def test_classes_of_the_validation_set_are_compared_before_training(
    make: Callable[..., Runner], images: Path, tmp_path: Path
) -> None:
    shutil.copytree(images, tmp_path / "four")
    shutil.copytree(images / "a", tmp_path / "four/d")
    change = {
        "val_dataloader__dataset__data_root": str(tmp_path / "four"),
        "val_dataloader__dataset__num_classes": None,
    }
    with pytest.raises(DataError, match=r"model\.head\.num_classes = 3, .*folders of val_dataloader\.dataset = 4;"):
        ClassifierCheckHook().before_train(make(**change))


def test_a_run_fails_before_an_image_is_read(make: Callable[..., Runner], images: Path) -> None:
    for path in images.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"write model\.head\.in_channels=32"):
        make(model__head__in_channels=48).train()


@pytest.mark.parametrize("phase", ["test", "val"])
def test_a_replaced_image_in_a_test_set_raises(make: Callable[..., Runner], images: Path, phase: str) -> None:
    broken = images / "b/4.png"
    broken.write_bytes(broken.read_bytes()[:50])
    with pytest.raises(DataError, match=rf"{broken}.*: repair or remove them"):
        getattr(make(), phase)()


def test_a_checkpoint_must_match_the_model(make_runner: Callable[..., Runner]) -> None:
    runner = make_runner()
    state = runner.model.state_dict()
    hook = StrictCheckpointHook()
    hook.after_load_checkpoint(runner, {"state_dict": state})
    hook.after_load_checkpoint(runner, state)
    head = "objectives.token.head.1.weight"
    changed = {
        "other shape": {**state, head: torch.zeros(3, 3)},
        "missing": {key: value for key, value in state.items() if key != head},
        "not in the model": {**state, "neck.weight": torch.zeros(1)},
    }
    for words, state_dict in changed.items():
        with pytest.raises(CheckpointError, match=words):
            hook.after_load_checkpoint(runner, {"state_dict": state_dict})
