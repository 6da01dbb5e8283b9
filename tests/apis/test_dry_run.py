import re
from pathlib import Path

import pytest
import torch
from runs import write_config, write_images, write_teacher

from proteus.apis import check, load_config
from proteus.apis.dry_run import build_without_memory
from proteus.checkpoints import CheckpointError
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
