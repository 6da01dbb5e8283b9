"""One run of the recipe, and everything that it leaves behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import timm
import torch
from runs import log_lines, options, trained, weights
from safetensors import safe_open
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Work directory and output."""
    folder = tmp_path_factory.mktemp("run")
    values = {"train_cfg.max_iters": 8, "train_cfg.val_interval": 4}
    return folder, trained("train.py", config, "--work-dir", folder, *options(values))


def test_a_log_line_says_what_one_wants_to_know(run: tuple[Path, str]) -> None:
    line = log_lines(run[1])[5]
    assert re.search(r"\[6/8\]", line)
    assert re.search(r"eta: \d+:\d\d:\d\d", line)
    figures = {key: float(value) for key, value in re.findall(r"(\w+): ([\d.e+-]+)(?= |$)", line)}
    assert figures["loss_token"] + figures["loss_feature"] + figures["loss_patch"] == pytest.approx(
        figures["loss"], abs=2e-4
    )
    # The fourth epoch of three iterations has not begun: DeiT's schedule is one epoch late.
    assert figures["lr"] == figures["base_lr"] == 1e-3
    # tests/engine/hooks/test_throughput.py has exact values, with a clock that does not depend on the machine.
    assert figures["images_per_s"] > 0
    assert 0 <= figures["data_wait"] <= 1
    assert figures["memory"] > 100  # MB, and torch alone takes more


def test_dumps_are_in_the_log_file_and_not_on_the_terminal(run: tuple[Path, str]) -> None:
    work_dir, output = run
    (log,) = work_dir.glob("*/*.log")
    text = log.read_text()
    for dump in ("System environment:", "Hooks will be executed", "Config:\n", "optimizer group of", "FileClient"):
        assert dump in text
        assert dump not in output
    assert "trained           " in output
    assert f"files in {work_dir}: " in output
    assert "metrics.jsonl" in output
    assert "grad_norm: " in output
    # A page: a line per iteration, and 25 more for two validations, files and warnings.
    assert len(output.splitlines()) < 26 + len(log_lines(output))


def test_tensorboard_shows_every_loss(run: tuple[Path, str]) -> None:
    (events,) = run[0].rglob("events.out.tfevents.*")
    accumulator = EventAccumulator(str(events.parent))
    accumulator.Reload()
    steps = [event.step for event in accumulator.Scalars("loss_token")]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8]
    assert {"loss", "loss_feature", "loss_patch", "lr", "images_per_s"} <= set(accumulator.Tags()["scalars"])
    assert [event.step for event in accumulator.Scalars("centered_cosine/patch")] == [4, 8]


def test_training_lowers_every_loss(run: tuple[Path, str]) -> None:
    first, last = log_lines(run[1])[0], log_lines(run[1])[-1]
    for name in ("loss_token", "loss_feature", "loss_patch"):
        before, after = (float(re.search(rf"{name}: ([\d.]+)", line)[1]) for line in (first, last))
        assert after < before


def test_timm_loads_the_student(run: tuple[Path, str]) -> None:
    path = run[0] / "student.safetensors"
    with safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["proteus"])
    assert "DINOv2 ViT-S/14" in description["teacher"]
    assert description["iterations"] == 8
    model = timm.create_model(description["architecture"], num_classes=0, **description["arguments"])
    model.load_state_dict(load_file(path))
    trained_weights = weights(run[0] / "iter_8.pth")
    assert all(torch.equal(value, trained_weights[f"student.vit.{key}"]) for key, value in load_file(path).items())
    assert model(torch.zeros(1, 3, 56, 56)).shape == (1, 48)


def test_nothing_of_the_teacher_is_in_the_checkpoint(run: tuple[Path, str]) -> None:
    checkpoint = torch.load(run[0] / "iter_8.pth", weights_only=False)
    assert not [name for name in checkpoint["state_dict"] if "teacher" in name]
    moments = sum(state["exp_avg"].numel() for state in checkpoint["optimizer"]["state"].values())
    assert moments == sum(value.numel() for value in checkpoint["state_dict"].values())


def test_testing_the_checkpoint_gives_the_last_validation(run: tuple[Path, str], config: Path) -> None:
    output = trained("test.py", config, run[0] / "iter_8.pth", "--work-dir", run[0] / "test")
    wanted, found = (_agreement(text) for text in (run[1], output))
    assert wanted == found
    assert found["cls"] > 0
    assert found["patch"] > 0


def test_the_config_that_a_run_writes_down_runs_again(run: tuple[Path, str], tmp_path: Path) -> None:
    output = trained("test.py", run[0] / "small.py", run[0] / "iter_8.pth", "--work-dir", tmp_path)
    assert _agreement(output) == _agreement(run[1])


def _agreement(output: str) -> dict[str, float]:
    """The last figures in a log."""
    return {name: float(re.findall(rf"centered_cosine/{name}: (-?[\d.]+)", output)[-1]) for name in ("cls", "patch")}
