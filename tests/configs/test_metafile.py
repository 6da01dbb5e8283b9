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
        key = ("teachers" if alike else repr(cfg.model), model.key, crop_size(cfg))
        if key not in costs:
            costs[key] = step_cost(model, cfg)
        return costs[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proteus.apis.dry_run.step_cost", counted)
        patch.setattr("proteus.apis.schedule_cost.step_cost", counted)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("_equal_models_counted_once")
def test_configs_build(name: str) -> None:
    assert "every part was built" in check(config(name))


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
