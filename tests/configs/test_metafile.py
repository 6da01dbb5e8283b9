import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from mmengine.config import Config
from runs import tool

from proteus.apis import check, load_config
from proteus.apis.model_cost import StepCost, step_cost
from proteus.config.check_consistency import crop_size

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs/proteus"
FIGURES = {
    *("imagenet", "fine_grained", "ade20k", "ade20k_linear", "nyu_rmse", "nyu_rmse_linear"),
    *("sketch", "a", "r", "c_mce", "gtsrb", "country211"),
}

RECIPES = {
    # parameters of the teacher and of the student in millions (with 1 + 16 x 16 positions, not 1 + 37 x 37), and
    # GFLOPs per image of the teacher
    "vit-ti_dinov2-s": (21.63, 5.51, 12.2),
    "vit-s_dinov2-b": (85.72, 21.63, 46.3),
    "vit-b_dinov2-l": (303.23, 85.72, 162.0),
    "vit-l_dinov2-g": (1134.77, 303.23, 598.8),
}


@cache
def config(name: str) -> Config:
    return load_config(FOLDER / name)


def entries() -> list[dict[str, Any]]:
    written = yaml.safe_load((FOLDER / "metafile.yml").read_text(encoding="utf-8"))
    return [entry for section in written["sections"] for entry in section["configs"]]


NAMES = [entry["config"] for entry in entries()]


def test_every_config_is_listed_once() -> None:
    there = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.py"))
    assert sorted(NAMES) == there


def test_entries_are_complete() -> None:
    for entry in entries():
        assert set(entry) - {"note", "command"} == {"config", "student", "teacher", "paper", "targets"}, entry
        assert set(entry["targets"]) <= FIGURES, entry
        assert entry["targets"] or entry.get("note"), entry


def test_readme_is_up_to_date() -> None:
    done = tool("config_table.py", "--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_keys_are_valid(name: str) -> None:
    cfg = config(name)
    assert cfg.default_scope == "proteus"


@pytest.fixture(scope="module")
def _equal_models_counted_once() -> Iterator[None]:
    """Many configs differ in their images or schedule alone: count the cost of each model once."""
    costs: dict[tuple[str, str, int | None], StepCost] = {}

    def counted(model: Any, cfg: Config, size: Any = None) -> StepCost:  # one size stands for those of a schedule
        # One count for configs that differ in the teacher alone.
        alike = "teachers/" in str(cfg.filename) and cfg.model.student.arch == "small"
        # What a student starts from changes no cost.
        parts = {name: part for name, part in cfg.model.items() if name != "init_from"}
        key = ("teachers" if alike else repr(parts), model.key, crop_size(cfg))
        if key not in costs:
            costs[key] = step_cost(model, cfg)
        return costs[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proteus.apis.dry_run.step_cost", counted)
        patch.setattr("proteus.apis.schedule_cost.step_cost", counted)
        yield


@cache
def report(name: str) -> str:
    """What ``--check`` prints."""
    return check(config(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("_equal_models_counted_once")
def test_configs_build(name: str) -> None:
    assert "every part was built" in report(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.usefixtures("_equal_models_counted_once")
def test_sizes_of_the_papers_recipes(name: str) -> None:
    text = report(f"{name}.py")
    teacher, student = (
        (float(p), float(f))
        for p, f in re.findall(r"(?:teacher|student) +([\d.]+) M parameters, ([\d.]+) GFLOPs", text)
    )
    assert (teacher[0], student[0], teacher[1]) == pytest.approx(RECIPES[name], rel=0.01)
    ((low, full),) = re.findall(r"about ([\d.]+) GiB in bfloat16, ([\d.]+) in float32", text)
    assert 1 < float(low) < float(full) < 80
    assert "data/imagenet/train" in text
    assert "checkpoints/dinov2_vit" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("proxy_sets/")])
@pytest.mark.usefixtures("_equal_models_counted_once")
def test_proxy_sets_are_checked_without_their_images(name: str) -> None:
    text = report(name)
    assert "375,300 iterations" in text
    assert "train_dataloader.dataset." in text.partition("missing on this machine")[2]


@pytest.mark.slow
@pytest.mark.usefixtures("_equal_models_counted_once")
def test_missing_files_are_listed_once() -> None:
    lines = report("vit-ti_dinov2-s.py").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("missing"))
    assert lines[start + 1 :] == [
        "  model.teacher.backbone.checkpoint = 'checkpoints/dinov2_vits14_pretrain.pth'",
        "  train_dataloader.dataset.data_root = 'data/imagenet/train'",
        "  val_dataloader.dataset.data_root = 'data/imagenet/val'",
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("_equal_models_counted_once")
def test_several_students_share_the_teachers_pass() -> None:
    lines = report("vit-ti-and-s_dinov2-b.py").splitlines()
    rows = {line[2:20].strip(): line[20:] for line in lines if line.startswith("  ")}
    assert rows["student tiny"].startswith("5.51 M parameters, ")
    assert rows["student small"].startswith("21.63 M parameters, ")
    alone = report("vit-s_dinov2-b.py")
    of_small = float(re.search(r"step +([\d.]+) GFLOPs", alone)[1])  # type: ignore[index]
    teacher = float(re.search(r"([\d.]+) GFLOPs", rows["teacher"])[1])  # type: ignore[index]
    step = float(re.search(r"([\d.]+) GFLOPs", rows["step"])[1])  # type: ignore[index]
    assert of_small < step < 2 * of_small - teacher


def test_clip_on_imagenet_merge_differs_by_its_images_alone() -> None:
    clip, merge = config("vit-b_clip-l.py").to_dict(), config("proxy_sets/vit-b_clip-l_imagenet-merge.py").to_dict()
    images = clip.pop("train_dataloader")["dataset"], merge.pop("train_dataloader")["dataset"]
    assert images[1]["pipeline"] == images[0]["pipeline"]
    assert "UniformMask" not in str(images)
    other = config("proxy_sets/vit-s_dinov2-b_imagenet-merge.py").train_dataloader.dataset.to_dict()
    assert {**images[1], "pipeline": None} == {**other, "pipeline": None}
    assert merge == clip


OTHER_SCHEDULES = ("quickstart", "_plus", "_finish")


@pytest.mark.parametrize("name", [name for name in NAMES if not any(each in name for each in OTHER_SCHEDULES)])
def test_schedule_of_the_paper(name: str) -> None:
    """375K iterations of 1024 images, or 300 epochs in batches of 256 for ViT-L, and lr = 5e-4 x batch / 512."""
    cfg = config(name)
    total = 8 * cfg.train_dataloader.batch_size
    assert (total, cfg.train_cfg.max_iters) in {(1024, 375_300), (256, 1_501_200)}
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(5e-4 * total / 512)
    assert cfg.auto_scale_lr.base_batch_size == total
