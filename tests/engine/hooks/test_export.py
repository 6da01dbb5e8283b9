import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import Runner
from safetensors import safe_open
from safetensors.torch import load_file

import proteus
from proteus.checkpoints import read_description
from proteus.models.heads.head_file import student_digest
from proteus.structures import UserError


def test_student_and_ema_are_exported(make_runner: Callable[..., Runner]) -> None:
    runner = make_runner(hooks=[dict(type="EMAHook", momentum=0.2)], train_cfg__max_iters=2)
    start = {key: value.clone() for key, value in runner.model.student.timm_state().items()}
    runner.train()
    folder = Path(runner.work_dir)
    student, average = load_file(folder / "student.safetensors"), load_file(folder / "student_ema.safetensors")
    assert student.keys() == average.keys() == runner.model.student.timm_state().keys()
    key = "blocks.0.attn.qkv.weight"
    assert torch.equal(student[key], runner.model.student.timm_state()[key])
    # MMEngine's EMA starts as a copy in the first step, and takes a fifth of the second.
    assert (average[key] - start[key]).abs().max() > 0
    assert not torch.equal(average[key], student[key])
    about = read_description(folder / "student_ema.safetensors")
    assert about is not None
    assert about.average_of == student_digest(student)
    assert not list(folder.glob("*.partial"))


def test_without_an_ema_only_the_student_is_exported(make_runner: Callable[..., Runner]) -> None:
    runner = make_runner(train_cfg__max_iters=1)
    runner.train()
    assert not (Path(runner.work_dir) / "student_ema.safetensors").exists()
    with safe_open(Path(runner.work_dir) / "student.safetensors", "pt") as file:
        description = json.loads(file.metadata()["proteus"])
    assert description["mean"] == [0.485, 0.456, 0.406]
    assert description["architecture"] == "vit_tiny_patch16_224"
    assert description["arguments"]["embed_dim"] == 48


@pytest.mark.parametrize(
    "student",
    [
        {"type": "TimmBackbone", "arch": "test_resnet", "img_size": 56},
        {"type": "mmpretrain.ResNet", "depth": 18, "base_channels": 8, "stem_channels": 8, "expansion": 1},
    ],
    ids=lambda student: student["type"],
)
def test_a_cnn_keeps_the_size_that_it_was_trained_at(
    student: dict[str, Any], make_runner: Callable[..., Runner]
) -> None:
    if student["type"].startswith("mmpretrain"):
        pytest.importorskip("mmpretrain")
    objectives = {"_delete_": True, "token": {"type": "TokenObjective"}}
    options = {"model__student": {"_delete_": True, **student}, "model__objectives": objectives}
    runner = make_runner(train_cfg__max_iters=1, **options)
    runner.train()
    file = Path(runner.work_dir) / "student.safetensors"
    about = read_description(file)
    assert about is not None
    assert (about.img_size, "img_size" in about.arguments) == (56, False)  # timm's CNNs take no such argument
    assert proteus.load_backbone(file).img_size == 56


def test_files_of_an_earlier_run_are_removed(make_runner: Callable[..., Runner]) -> None:
    runner = make_runner(train_cfg__max_iters=1)
    folder = Path(runner.work_dir)
    outdated = [f"student{part}.safetensors" for part in ("_ema", "_plain", "_heads", "_ema_heads", "_plain_heads")]
    for name in (*outdated, "student_of_mine.safetensors"):
        (folder / name).write_bytes(b"")
    runner.train()
    found = {path.name for path in folder.glob("*.safetensors")}
    assert found == {"student.safetensors", "student_of_mine.safetensors"}


def test_each_of_several_students_is_exported(
    make_runner: Callable[..., Runner], multi_student: dict[str, Any]
) -> None:
    runner = make_runner(hooks=[dict(type="EMAHook", momentum=0.2)], train_cfg__max_iters=2, model=multi_student)
    runner.train()
    folder = Path(runner.work_dir)
    names = {f"student_{name}{ending}" for name in ("tiny", "small") for ending in ("", "_ema")}
    assert {path.stem for path in folder.glob("*.safetensors")} == names
    for name, width in (("tiny", 24), ("small", 48)):
        state = load_file(folder / f"student_{name}.safetensors")
        for key, value in runner.model.students[name].student.timm_state().items():
            assert torch.equal(state[key], value), key
        assert state["cls_token"].shape[-1] == width
        assert not torch.equal(load_file(folder / f"student_{name}_ema.safetensors")["cls_token"], state["cls_token"])


def test_the_heads_are_exported(make_runner: Callable[..., Runner]) -> None:
    hooks = [dict(type="StudentEMAHook", gamma=1.0)]
    runner = make_runner(hooks=hooks, train_cfg__max_iters=2, default_hooks__export__heads=True)
    runner.train()
    average = next(hook for hook in runner.hooks if type(hook).__name__ == "StudentEMAHook").ema_model.module
    for name, model in (("student", average), ("student_plain", runner.model)):
        mapped = proteus.load_backbone(Path(runner.work_dir) / f"{name}.safetensors", mapped=True)
        images = torch.rand(2, 3, mapped.img_size, mapped.img_size)
        model.eval()
        with torch.no_grad():
            expected = model.predict_tokens(model.student(images))
            torch.testing.assert_close(mapped(images).cls, expected["cls"])
            torch.testing.assert_close(mapped(images).patches, expected["patches"])


def test_the_heads_of_each_of_several_students_are_exported(
    make_runner: Callable[..., Runner], multi_student: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proteus.exporters.folder.FORMATS", ("timm",))  # the others take seconds
    runner = make_runner(train_cfg__max_iters=1, default_hooks__export__heads=True, model=multi_student)
    runner.train()
    folder = Path(runner.work_dir)
    names = {f"student_{name}{ending}" for name in ("tiny", "small") for ending in ("", "_heads")}
    assert {path.stem for path in folder.glob("*.safetensors")} == names
    for name, model in runner.model.eval().distillers.items():
        file, out = folder / f"student_{name}.safetensors", tmp_path / f"out_{name}"
        proteus.export(file, out, report=lambda _: None)
        images = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = model.predict_tokens(model.student(images))
            for source in (file, out):
                mapped = proteus.load_backbone(source, mapped=True)
                torch.testing.assert_close(mapped(images).cls, expected["cls"], atol=1e-5, rtol=1e-5)
                torch.testing.assert_close(mapped(images).patches, expected["patches"], atol=1e-5, rtol=1e-5)


def test_a_model_without_heads_is_refused_before_training(make_runner: Callable[..., Runner]) -> None:
    options = {"default_hooks__export__heads": True, "model__objectives__feature": None}
    runner = make_runner(train_cfg__max_iters=1, model__objectives__patch=None, **options)
    with pytest.raises(UserError, match=r"ExportStudentHook\.heads=True: the model has no head for patches"):
        runner.train()
    assert runner.iter == 0


def test_a_text_that_names_another_teacher_is_logged(make_runner: Callable[..., Runner]) -> None:
    runner = make_runner(train_cfg__max_iters=1, default_hooks__export__teacher="DINOv2 ViT-S/14 (Meta, Apache-2.0)")
    runner.train()
    (log,) = Path(runner.work_dir).rglob("*.log")
    assert "default_hooks.export.teacher='DINOv2 ViT-S/14 (Meta, Apache-2.0)': the text names DINOv2" in log.read_text()
