import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from cache_runs import built, write_fixed
from runs import write_config, write_images, write_teacher

from proteus.apis import check, load_config
from proteus.apis.dry_run import build_without_memory
from proteus.checkpoints import CheckpointError
from proteus.datasets.teacher_cache import CacheError, StaleCacheError
from proteus.structures import ConfigError, UserError


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_config(tmp_path, write_images(tmp_path / "images", 8), write_teacher(tmp_path / "teacher.safetensors"))


def test_nothing_missing(small: Path) -> None:
    text = check(load_config(small))
    assert "train_dataloader  8 images" in text
    assert "missing on this machine" not in text


def test_a_missing_load_from_is_listed(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "work/iter_30.pth"
    lines = check(load_config(small, {"load_from": str(path)})).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("missing"))
    assert lines[start + 1 :] == [f"  load_from = '{path}'"]
    path.parent.mkdir()
    torch.save({"state_dict": {"weight": torch.ones(1)}}, path)
    assert "missing on this machine" not in check(load_config(small, {"load_from": str(path)}))
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"iter_30\.pth is damaged"):
        check(load_config(small, {"load_from": str(path)}))


def test_the_flops_of_a_cnn_depend_on_its_image_size(small: Path) -> None:
    """ResNets of any size: a quarter of the pixels, a quarter of the FLOPs."""
    values = {
        "model.teacher.backbone.img_size": 112,
        "model.student": {"_delete_": True, "type": "TimmBackbone", "arch": "resnet10t"},
        "model.objectives.feature": None,
        "model.objectives.patch": None,
    }
    flops = []
    for size in (112, 224):
        cfg = load_config(small, {**values, "train_dataloader.dataset.pipeline.0.scale": size})
        cfg.train_dataloader.dataset.pipeline.pop(5)
        (line,) = (line for line in check(cfg).splitlines() if line.startswith("  student"))
        flops.append(float(re.search(r"([\d.]+) GFLOPs", line)[1]))  # type: ignore[index]
    assert flops[1] == pytest.approx(4 * flops[0], rel=0.1)


def test_the_largest_model_takes_no_memory() -> None:
    model = build_without_memory(load_config("configs/proteus/vit-l_dinov2-g.py").model)
    assert {parameter.device.type for parameter in [*model.parameters(), *model.teacher.parameters()]} == {"meta"}
    assert sum(parameter.numel() for parameter in model.teacher.parameters()) == pytest.approx(1.136e9, rel=0.01)


def test_existing_weights_are_checked(small: Path) -> None:
    write_teacher(small.parent / "teacher.safetensors", embed_dim=96)
    with pytest.raises(CheckpointError, match="width 96"):
        check(load_config(small))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            {"model.teacher.img_size": 70, "model.grids.match": "teacher_size"},
            r"model\.grids\.match='teacher_size', and model\.teacher has 5x5 patches, the student 4x4: remove",
        ),
        ({"model.grids.match": [2, 0]}, r"model\.grids\.match=.*write two whole numbers"),
        ({"model.grids.math": "finer"}, r"model\.grids\.math: unknown key; it takes match and mode"),
        ({"train_dataloader.dataset.pipeline.2.policy": "no-such"}, "no-such"),
        ({"optim_wrapper.dtype": "float16"}, r"optim_wrapper\.dtype='float16'"),
        ({"train_dataloader.sampler.repeats": 0}, r"sampler\.repeats: found 0, expected a positive"),
        ({"train_dataloader.dataset.pipeline.5.ratio": 50}, r"pipeline\[5\]\.ratio: found 50, expected a number"),
        ({"train_dataloader.dataset.split": "test"}, "'held-out'"),
    ],
    ids=["grids", "sides", "key", "policy", "dtype", "repeats", "ratio", "split"],
)
def test_wrong_arguments(small: Path, override: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check(load_config(small, override))


def test_a_check_does_not_change_the_config(small: Path) -> None:
    cfg = load_config(small)
    before = cfg.to_dict()
    check(cfg)
    assert cfg.to_dict() == before
    assert torch.empty(1).device.type == "cpu"


def test_each_teacher_has_a_row(small: Path) -> None:
    cfg = load_config(small)
    single = cfg.model.to_dict()
    other = dict(type="Teacher", backbone=dict(type="TimmBackbone", arch="resnet10t", img_size=56))
    token = dict(token=dict(type="TokenObjective"))
    first = dict(teacher=single["teacher"], objectives=single["objectives"])
    second = dict(teacher=other, objectives=token, standardization=dict(type="PHIStandardization"))
    teachers = dict(vit=first, cnn=second)
    model = dict(type="MultiTeacherDistiller", student=single["student"], teachers=teachers, _delete_=True)
    lines = check(load_config(small, {"model": model})).splitlines()
    rows = {line[2:20].strip(): line[20:] for line in lines if line.startswith("  ")}
    assert rows["teacher cnn"].startswith("4.92 M parameters, ")
    assert rows["teacher vit"].startswith("0.14 M parameters, ")
    spread = check(load_config(small, {"model": {**model, "spread_teachers": True}}))
    words = "process 0 holds cnn (4.92 M parameters), process 1 holds vit (0.14 M parameters)"
    assert f"  teachers spread   in each group of 2 processes, {words}" in spread
    for key, wrong, words in (
        ("weight", "x", "'x': write a number"),
        ("standardization", dict(type="Whitening"), "Whitening"),
        ("wieght", 1.0, "wieght"),
    ):
        broken = dict(model, teachers=dict(vit=first, cnn={**second, key: wrong}))
        with pytest.raises(ConfigError, match=rf"(?s)model\.teachers\.cnn\..*{words}"):
            check(load_config(small, {"model": broken}))


def test_grids_of_every_scheduled_size(small: Path) -> None:
    """A teacher that resizes all images has the student's patches at one size only."""
    stages = [dict(size=(28, 56), end=0.2), dict(grow_from=28, size=56, end=0.6), dict(size=84)]
    sampler = {"type": "ResolutionBatchSampler", "stages": stages}
    cfg = load_config(small, {"model.teacher.img_size": 56, "train_dataloader.batch_sampler": sampler})
    cfg.train_cfg.max_iters = 100
    rows = [line for line in check(cfg).splitlines() if line.startswith("  grids")]
    assert [row[20:].partition(", compared")[0] for row in rows] == [
        "28x56 px: student 2x4, teacher 4x4",
        "28x28 px: student 2x2, teacher 4x4",
        "42x42 px: student 3x3, teacher 4x4",
        "84x84 px: student 6x6, teacher 4x4",
    ]
    assert rows[0].endswith("teacher's images resized to 56x56 px")


@pytest.fixture
def two_teachers(small: Path, tmp_path: Path) -> dict[str, Any]:
    """Two teachers of one architecture with different weights, each with a cache of the same views."""
    other = write_teacher(tmp_path / "other.safetensors", init_values=0.5)
    alone = load_config(small).model.to_dict()
    teachers = {name: {key: copy.deepcopy(alone[key]) for key in ("teacher", "objectives")} for name in ("one", "two")}
    teachers["two"]["teacher"]["backbone"]["checkpoint"] = str(other)
    model = {"_delete_": True, "type": "MultiTeacherDistiller", "student": alone["student"], "teachers": teachers}
    caches = {name: str(tmp_path / name) for name in teachers}
    write_fixed(small, tmp_path / "fixed.py", tmp_path / "images", tmp_path / "unused")
    return {"model": model, "train_dataloader.dataset.cache": {"_delete_": True, **caches}}


def test_teacher_caches(two_teachers: dict[str, Any], tmp_path: Path) -> None:
    config, key = tmp_path / "fixed.py", "train_dataloader.dataset.cache"
    one, two = str(tmp_path / "one"), str(tmp_path / "two")

    def checked(cache: Any, **values: Any) -> str:
        cfg = load_config(config, copy.deepcopy(two_teachers))
        cfg.train_dataloader.dataset.cache = cache
        cfg.train_dataloader.dataset.update(values)
        return check(cfg)

    built(config, copy.deepcopy(two_teachers), teacher="one")
    assert checked({"one": one, "two": two}).splitlines()[-1] == f"  {key}.two = '{two}'"  # to be built
    built(config, copy.deepcopy(two_teachers), teacher="two")
    assert "missing" not in checked({"one": one, "two": two})
    with pytest.raises(StaleCacheError, match=rf"\({re.escape(key)}\.one\):\n +teacher\.weights: "):
        checked({"one": two, "two": one})
    with pytest.raises(StaleCacheError, match=rf"\({re.escape(key)}\.two\):\n +teacher\.weights: "):
        checked({"one": one, "two": one})
    with pytest.raises(StaleCacheError, match=rf"{re.escape(key)}\.dino: the run has no teacher of this name"):
        checked({"dino": one})
    with pytest.raises(StaleCacheError, match=rf"{re.escape(key)} is one folder, and the run has several teachers"):
        checked(one)
    # Without the weights, everything else.
    (tmp_path / "other.safetensors").rename(tmp_path / "elsewhere.safetensors")
    assert "other.safetensors" in checked({"one": one, "two": two})
    with pytest.raises(StaleCacheError, match=rf"\({re.escape(key)}\.two\):\n +views\.seed: "):
        checked({"two": two}, view_seed=1)
    next((tmp_path / "one").glob("view*")).unlink()
    with pytest.raises(CacheError, match=r"(?s)1 files of the teacher cache in .* --teacher one"):
        checked({"one": one, "two": two})


def test_the_dtype_of_a_teacher_cache(two_teachers: dict[str, Any], tmp_path: Path) -> None:
    """The cache of a GPU may be checked on a machine without one; training then runs where the GPU is."""
    del two_teachers["train_dataloader.dataset.cache"]["two"]

    def values(dtype: str) -> dict[str, Any]:
        two_teachers["model"]["teachers"]["one"]["teacher"]["dtype"] = dtype
        return copy.deepcopy(two_teachers)

    config = tmp_path / "fixed.py"
    built(config, values("bfloat16"), teacher="one")
    assert "not run" in check(load_config(config, values("bfloat16")))
    if not torch.cuda.is_available():
        assert "not run" in check(load_config(config, values("auto")))
    with pytest.raises(StaleCacheError, match=r'teacher\.dtype: the cache was built with "bfloat16"'):
        check(load_config(config, values("float32")))


def test_objectives_beyond_the_papers(small: Path) -> None:
    objectives = {
        "gram": dict(type="PatchRelationObjective", loss=dict(type="RelationKLLoss"), negatives=False),
        "relation": dict(type="TokenRelationObjective", queue_size=32),
        "all": dict(type="PatchObjective", tokens="all", loss=dict(type="BalancedLoss")),
        "standardized": dict(type="TokenObjective", loss=dict(type="StandardizedMSELoss")),
    }
    mixed = dict(type="MixupDataPreprocessor", mixup=1.0, cutmix=0.0, num_classes=None)
    cfg = load_config(small, {"model.data_preprocessor": mixed})
    cfg.model.objectives.update(objectives)
    assert re.search(r"step +([\d.]+) GFLOPs", check(cfg))
    cfg.model.objectives.relation.queue_size = 0
    cfg.model.micro_batches = 2
    with pytest.raises(UserError, match=r"objectives \['relation'\] compare all images of a batch"):
        check(cfg)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("objectives.patch.tokens", "visible"),
        ("objectives.token.loss", dict(type="RelationKLLoss", temperature=0)),
        ("objectives.token.loss", dict(type="BalancedLoss", beta=-1)),
        ("objectives.token.loss", dict(type="StandardizedMSELoss", momentum=2)),
    ],
)
def test_bad_values_of_objectives_are_refused_by_their_key(small: Path, key: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"model\.{re.escape(key)}"):
        load_config(small, {f"model.{key}": value})
