"""A teacher's cache through the real tools: the run with it is the run without it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cache_runs import contents, write_fixed
from PIL import Image
from runs import options, tool, trained, weights

from proteus.utils import exclusive

pytestmark = pytest.mark.slow

RUN = {"train_cfg.max_iters": 20, "log_processor.window_size": 1, "default_hooks.online_eval.interval": 1000}
OTHER_STUDENT = {**RUN, "model.student.depth": 1, "model.student.num_heads": 4, "randomness.seed": 7}


@pytest.fixture(scope="module")
def fixed(config: Path, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config next to its teacher cache."""
    folder = tmp_path_factory.mktemp("cache")
    path = write_fixed(config, folder / "fixed.py", place / "images", folder / "cache")
    said = trained("cache_teacher.py", path, "--dry-run")
    assert "24 images x 2 views x 2,316 bytes" in said
    assert not (folder / "cache").exists()
    assert "teacher cache: " in trained("cache_teacher.py", path, "--shard-mb", 0.02)
    return path


def curve(folder: Path) -> dict[str, list[float]]:
    """Every term of the loss, step by step."""
    (file,) = folder.glob("*/vis_data/scalars.json")
    steps = [json.loads(line) for line in file.read_text().splitlines()]
    names = ("loss", "loss_token", "loss_feature", "loss_patch")
    return {name: [step[name] for step in steps if name in step] for name in names}


@pytest.mark.parametrize("values", [RUN, OTHER_STUDENT], ids=["student", "another-student"])
def test_the_loss_curve_is_that_of_the_run_without(fixed: Path, tmp_path: Path, values: dict[str, object]) -> None:
    said = trained("train.py", fixed, "--work-dir", tmp_path / "with", *options(values))
    assert "training does not run the teacher" in said
    without = {**values, "train_dataloader.dataset.cache": None}
    assert "fixed views (view_seed=0; the teacher runs)" in trained(
        "train.py", fixed, "--work-dir", tmp_path / "without", *options(without)
    )
    cached, plain = curve(tmp_path / "with"), curve(tmp_path / "without")
    for name, steps in plain.items():
        assert len(steps) == 20
        assert cached[name] == pytest.approx(steps, abs=1e-4), name
    assert plain["loss"][-1] < 0.8 * plain["loss"][0]


def test_two_ranks_resumed_see_what_one_sees(fixed: Path, tmp_path: Path) -> None:
    values = {**RUN, "train_cfg.max_iters": 4, "default_hooks.checkpoint.interval": 2}
    values |= {"optim_wrapper.optimizer.eps": 1e-6, "train_dataloader.sampler.repeats": 1}
    trained("train.py", fixed, "--work-dir", tmp_path / "one", *options(values))
    halves = {**values, "train_dataloader.batch_size": 4, "train_dataloader.num_workers": 1}
    for _ in range(2):  # the second resumes from the first's second step
        trained("train.py", fixed, "--work-dir", tmp_path / "two", "--resume", *options(halves), ranks=2)
        (tmp_path / "two/iter_4.pth").rename(tmp_path / "end.pth")
        (tmp_path / "two/last_checkpoint").write_text(str(tmp_path / "two/iter_2.pth"))
    one, two = weights(tmp_path / "one/iter_4.pth"), weights(tmp_path / "end.pth")
    for name, value in one.items():
        assert (two[name] - value).abs().max() < 1e-5, name


def test_a_stale_cache_stops_the_run(fixed: Path, tmp_path: Path) -> None:
    values = {"model.teacher.mean": "(0.5,0.5,0.5)", "train_dataloader.dataset.view_seed": 3}
    done = tool("train.py", fixed, "--work-dir", tmp_path, *options(values))
    assert done.returncode == 2
    for line in (
        "error: the teacher cache in ",
        " teacher.mean: the cache was built with [0.485, 0.456, 0.406], this run has [0.5, 0.5, 0.5]",
        " views.seed: the cache was built with 0, this run has 3",
        f" proteus cache {fixed} --out DIR",
    ):
        assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("iter_*"))


def test_images_that_changed_under_their_names_stop_the_run(fixed: Path, place: Path, tmp_path: Path) -> None:
    images = Path(shutil.copytree(place / "images", tmp_path / "images"))
    for path in images.rglob("*.*"):
        Image.open(path).rotate(180).save(path)
    values = {"train_dataloader.dataset.dataset.data_root": images}
    done = tool("train.py", fixed, "--work-dir", tmp_path, *options(values))
    assert done.returncode == 2
    assert " pixels: 16 of 16 compared views differ" in done.stderr
    assert "(the cache was built with proteus " in done.stderr


def test_no_cache_stops_the_run(fixed: Path, tmp_path: Path) -> None:
    done = tool("train.py", fixed, "--work-dir", tmp_path, *options({"train_dataloader.dataset.cache": tmp_path / "c"}))
    assert done.returncode == 2
    assert f"no teacher cache in {tmp_path / 'c'}; build it with proteus cache" in done.stderr


def build_on_two_ranks(fixed: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return tool("cache_teacher.py", fixed, "--out", out, "--shard-mb", 0.02, ranks=2)


def test_two_ranks_build_what_one_builds(fixed: Path, tmp_path: Path) -> None:
    done = build_on_two_ranks(fixed, tmp_path / "two")
    assert done.returncode == 0, done.stderr[-3000:]
    assert contents(fixed.parent / "cache") == contents(tmp_path / "two")


def test_two_ranks_are_refused_together(fixed: Path, tmp_path: Path) -> None:
    with exclusive(tmp_path, "building a teacher cache"):
        done = build_on_two_ranks(fixed, tmp_path)
    assert done.returncode != 0
    assert f"process {os.getpid()} on " in done.stderr
    assert "Traceback" not in done.stderr
    assert not contents(tmp_path)
