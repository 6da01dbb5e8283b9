"""Runs of the study: each is trained once, and a killed one continues."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from runs import tool, write_images, write_teacher
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import study
import study_contenders
import study_results
import study_runs
from study_contenders import CONTENDERS, Contender, choose
from study_loop import Study
from study_peers import check_peers
from study_points import evaluate_points
from study_runs import Run, Settings, TrainingError, count_runs, finish_run, write_run_config
from study_students import Evaluator
from study_table import COLUMNS

from proteus.apis import load_config
from proteus.checkpoints import read_state_dict
from proteus.checkpoints.export import export_backbone
from proteus.models.backbones import build_backbone
from proteus.structures import UserError

CONFIG = """
_base_ = "{base}"

model = dict(
    teacher=dict(backbone=dict(arch="tiny", img_size=28, embed_dim=64, depth=2, num_heads=4, checkpoint="{teacher}")),
    student=dict(img_size=28, embed_dim=48, depth=2, num_heads=3),
)
train_pipeline = _base_.train_pipeline
train_pipeline[0].scale = 28
val_pipeline = _base_.val_pipeline
val_pipeline[1].scale, val_pipeline[2].crop_size = 32, 28
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(pipeline=val_pipeline, indices=4))
default_hooks = dict(checkpoint=dict(interval=1), online_eval=dict(interval=1, images=4))
"""


def write_data(folder: Path) -> Path:
    """Random pictures in the layout of docs/study.md."""
    generator = np.random.default_rng(0)

    def write(path: Path, *shape: int, classes: int = 256) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, classes, shape, dtype=np.uint8)).save(path)

    write_images(folder / "photos/imagenet", 8)
    for number in range(8):
        write(folder / f"photos/bsds/{number}.png", 40, 48, 3)
    for split in ("train", "test"):
        for number in range(8):
            write(folder / f"cifar10/{split}/{'ab'[number % 2]}/{number}.png", 32, 32, 3)
    for split in ("train", "val", "test"):
        write(folder / f"camvid/images/{split}/0.png", 60, 90, 3)
        write(folder / f"camvid/annotations/{split}/0.png", 60, 90, classes=3)
    return folder


def start(command: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
    """Train in a fork of the server of ``runs.py``."""
    assert list(command[1:3]) == ["-m", "proteus"]
    done = tool(*command[3:])
    log.write_text(done.stdout + done.stderr)
    return done.returncode


def never(*_: object) -> int:
    raise AssertionError("a finished run was repeated")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("study")
    return Settings(write_data(folder / "data"), folder / "out", views=8, threads=1)


@pytest.fixture
def contenders(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[Contender]:
    """One with a small config, which is trained at two rates."""
    folder = settings.out.parent
    teacher = folder / "teacher.safetensors"
    if not teacher.is_file():
        write_teacher(teacher, img_size=28)
    base = study_contenders.COMMON
    monkeypatch.setattr(study_contenders, "CONFIGS", folder)
    (folder / "small.py").write_text(CONFIG.format(base=base, teacher=teacher))
    return [Contender("small", "", (1e-4, 1e-3))]


def test_every_contender_has_a_valid_config(settings: Settings, tmp_path: Path) -> None:
    short = replace(settings, views=384)
    steps = {"mobilenet-random": 100}  # for the statistics of batch normalisation
    for contender in CONTENDERS:
        if not contender.peer:
            write_run_config(Run(contender, contender.rates[0], 3), short, tmp_path / f"{contender.name}.py")
            cfg = load_config(tmp_path / f"{contender.name}.py")
            assert cfg.randomness.seed == 3
            assert cfg.train_cfg.max_iters == (24 if contender.trains else steps.get(contender.name, 1))
            dataset = cfg.train_dataloader.dataset
            assert dataset.get("dataset", dataset).data_root == str(settings.data / "photos/imagenet")
            rate = contender.rates[0] if contender.trains else 1e-12
            if rate is None:
                rate = load_config(contender.config).optim_wrapper.optimizer.lr
            assert cfg.optim_wrapper.optimizer.lr == rate
            if contender.trains:
                assert [(part.begin, part.end) for part in cfg.param_scheduler] == [(0, 2), (2, 24)]


def test_unknown_contender_is_named() -> None:
    with pytest.raises(UserError, match="unknown contender 'slicd'; choose from sliced"):
        choose(["slicd"])


def test_study_from_data_to_table(
    settings: Settings, contenders: list[Contender], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = study_contenders.CONFIGS / "small.py"
    monkeypatch.setattr(study_results, "COMMON", config)
    monkeypatch.setattr(study_results, "_FINALISTS", ("small",))
    settings = replace(settings, points=2)
    done = Study(settings, 2, Evaluator(settings.data, config), start)
    rows = done.rows(contenders)
    names = study_results.write_results(done, contenders, rows)
    assert names == ["study.json", "study.md", "curves.png", "points.png", "pca.png"]
    assert all((settings.out / name).stat().st_size for name in names)
    record = json.loads((settings.out / "study.json").read_text())
    small = record["rows"]["small"]
    assert small["learning_rate"] in (1e-4, 1e-3)
    assert sorted(small["validation"]) == ["0.0001", "0.001"]
    assert len(small["seeds"]) == len(small["images_per_second"]) == 2
    assert set(small["mean"]) == set(small["spread"]) == set(COLUMNS)
    assert record["teacher"]["cifar_knn"] >= 0
    # Two rates, and one more seed at one of them.
    results = sorted(settings.out.glob("runs/*/*/result.json"))
    assert len(results) == 3
    result = json.loads(results[0].read_text())
    assert {"seconds", "images_per_second", "config", "machine", "commit", "validation"} <= set(result)
    # The last point is the delivered student, an average of weights.
    chosen = settings.out / f"runs/small/lr-{small['learning_rate']:g}_seed-0"
    points = json.loads((chosen / "result.json").read_text())["points"]
    assert list(points) == ["4", "8"]
    assert points["8"] == pytest.approx(small["seeds"][0])
    assert (chosen / "train/student_plain.safetensors").is_file()
    assert "[3/3] small" in capsys.readouterr().out
    # The same command again trains nothing and gives the same.
    again = Study(settings, 2, Evaluator(settings.data, config), never)
    assert again.rows(contenders) == rows


def test_teacher_of_fixed_views_is_cached_before_the_training(
    settings: Settings, contenders: list[Contender], tmp_path: Path
) -> None:
    small, cached = study_contenders.CONFIGS / "small.py", study_contenders.CONFIGS / "cached.py"
    views = 'type="FixedViews", views=2, cache="unused", dataset=_base_.train_dataloader.dataset'
    cached.write_text(f'_base_ = "{small}"\ntrain_dataloader = dict(dataset=dict(_delete_=True, {views}))\n')
    elsewhere, run, made = replace(settings, out=tmp_path), Run(Contender("cached", "", (None,)), None, 5), []

    def watch(command: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
        status = start(command, environment, log)
        made.append((command[3], sorted(path.name for path in (run.folder(elsewhere) / "cache").iterdir())))
        return status

    result = finish_run(run, elsewhere, watch)
    assert [name for name, _ in made] == ["cache", "train"]
    assert made[0][1] == made[1][1] != []
    assert "FixedViews" in result["config"]
    assert not (run.folder(elsewhere) / "cache").exists()


def test_points_are_evaluated_as_the_student_is(
    settings: Settings, contenders: list[Contender], tmp_path: Path
) -> None:
    """A CNN with another grid than the teacher's, evaluated on images of another side than the study's."""
    contender, elsewhere = Contender("cnn", "", (None,), side=42), replace(settings, out=tmp_path)
    folder = Run(contender, None, 0).folder(elsewhere)
    (folder / "train").mkdir(parents=True)
    small, arch = study_contenders.CONFIGS / "small.py", "test_resnet"
    (folder / "config.py").write_text(
        f'_base_ = "{small}"\n'
        f'model = dict(student=dict(_delete_=True, type="TimmBackbone", arch="{arch}", img_size=42))\n'
    )
    (folder / study_runs.RESULT).write_text("{}")
    torch.manual_seed(0)
    student = build_backbone({"type": "TimmBackbone", "arch": arch, "img_size": 42})
    state = {f"student.{key}": value for key, value in student.state_dict().items()}
    torch.save({"state_dict": state, "ema_state_dict": state}, folder / "train/iter_2.pth")
    about = {"architecture": arch, "arguments": {}, "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    weights = export_backbone(student.timm_state(), folder / "train/student.safetensors", about)
    evaluator = Evaluator(settings.data, small)
    points = evaluate_points(Run(contender, None, 0), elsewhere, evaluator)
    assert points == {8: pytest.approx(evaluator.evaluate_student(weights, "cls", "test", 42))}


def test_a_slice_which_no_seed_changes_is_made_once() -> None:
    by_name = {each.name: each for each in CONTENDERS}
    assert [len(by_name[name].seeds(3)) for name in ("sliced", "sliced-64", "random", "plus-sliced")] == [1, 1, 3, 3]
    assert count_runs(by_name["sliced"], 3) == 1
    assert count_runs(by_name["released"], 3) == 4 + 2  # four rates with seed 0, and two more seeds


def test_start_without_training_has_no_rate_and_no_speed(settings: Settings, tmp_path: Path) -> None:
    elsewhere, contender = replace(settings, out=tmp_path), Contender("start", "", (None,), trains=False)
    for seed in range(2):
        folder = Run(contender, None, seed).folder(elsewhere)
        folder.mkdir(parents=True)
        found = {
            "views": 8,
            "data": str(settings.data.resolve()),
            "images_per_second": 9.0,
            "test": {"cifar_knn": seed},
        }
        (folder / study_runs.RESULT).write_text(json.dumps(found))
    (row,) = Study(elsewhere, 2, None, never).rows([contender])  # type: ignore[arg-type]
    assert (row.rate, row.speeds, row.mean("cifar_knn")) == (None, [], 0.5)


def test_killed_run_continues_to_the_same_weights(settings: Settings, contenders: list[Contender]) -> None:
    def killed(command: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
        """Leave what a run that was killed after its first step leaves."""
        assert start(command, environment, log) == 0
        work_dir = Path(command[command.index("--work-dir") + 1])
        (work_dir / "iter_2.pth").unlink()
        (work_dir / "student.safetensors").rename(work_dir / "uninterrupted.safetensors")
        (work_dir / "last_checkpoint").write_text(str(work_dir / "iter_1.pth"))
        log.write_text("Killed\n")
        return -9

    keeping = CONFIG.replace("checkpoint=dict(interval=1)", "checkpoint=dict(interval=1, max_keep_ckpts=2)")
    config = study_contenders.CONFIGS / "keeping.py"
    config.write_text(keeping.format(base=study_contenders.COMMON, teacher=config.with_name("teacher.safetensors")))
    run = Run(Contender("keeping", ""), 1e-3, 7)
    with pytest.raises(TrainingError, match=r"keeping lr 0.001 seed 7: exit status -9: Killed \(see .*train\.log\)"):
        finish_run(run, settings, killed)
    assert not (run.folder(settings) / study_runs.RESULT).exists()

    def resumed(command: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
        status = start(command, environment, log)
        assert "iter_1.pth" in log.read_text()
        return status

    finish_run(run, settings, resumed)
    student = study_runs.student_file(run.folder(settings))
    first, second = (read_state_dict(path) for path in (student, student.with_name("uninterrupted.safetensors")))
    assert all(torch.equal(first[key], second[key]) for key in second)


def test_failed_training_is_reported_and_others_continue(
    settings: Settings, contenders: list[Contender], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(words: str) -> Callable[..., int]:
        def run(command: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
            log.write_text(f"{words}\n")
            return 1

        return run

    elsewhere = Settings(settings.data, tmp_path, settings.views)
    done = Study(elsewhere, 1, None, failing("error: no memory"))  # type: ignore[arg-type]
    assert done.rows(contenders) == []
    assert len(done.failures) == 1
    assert "small lr 0.0001 seed 0: exit status 1: error: no memory" in capsys.readouterr().err
    # A training that diverged has a result, and no rate is left.
    done = Study(elsewhere, 1, None, failing("error: loss is NaN or infinite"))  # type: ignore[arg-type]
    (row,) = done.rows(contenders)
    assert not row.seeds
    assert row.note == "diverged at every rate"
    assert Study(elsewhere, 1, None, never).rows(contenders) == [row]  # type: ignore[arg-type]


def test_results_of_other_views_are_refused(settings: Settings, contenders: list[Contender], tmp_path: Path) -> None:
    run = Run(contenders[0], 1e-4, 0)
    elsewhere = Settings(settings.data, tmp_path, 8)
    folder = run.folder(elsewhere)
    folder.mkdir(parents=True)
    (folder / study_runs.RESULT).write_text(json.dumps({"views": 9600, "data": str(settings.data.resolve())}))
    with pytest.raises(UserError, match="its run has views=9600, not 8; name another --out"):
        finish_run(run, elsewhere, never)


def test_missing_peer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIGHTLY_TRAIN_PYTHON", raising=False)
    check_peers(choose(["random"]))
    with pytest.raises(UserError, match=r"LIGHTLY_TRAIN_PYTHON is not set; make its environment \(python -m venv"):
        check_peers(choose(["random", "lightly-train"]))
    monkeypatch.setenv("LIGHTLY_TRAIN_PYTHON", "/nowhere/python")
    with pytest.raises(UserError, match="/nowhere/python has no lightly_train"):
        check_peers(choose(["lightly-train-best"]))


def test_arguments() -> None:
    assert study.parse_args(["--list"]).list
    with pytest.raises(SystemExit):
        study.parse_args(["--data", "x"])
