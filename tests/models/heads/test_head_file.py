import json
from pathlib import Path
from typing import Any

import pytest
import torch
from data_samples import data_samples
from safetensors.torch import load_file, save_file
from torch import nn

import proteus
from proteus.apis.evaluate import backbone_summary
from proteus.checkpoints import CheckpointError, export_backbone
from proteus.models import Distiller, LinearProbe
from proteus.models.backbones import architecture_of
from proteus.models.heads.head_file import HEADS, heads_of, levels_of, read_heads, student_digest, write_heads
from proteus.models.zoo import backbone_spec
from proteus.structures import UserError

SIZE = dict(type="ViT", arch="tiny", img_size=28, patch_size=14, depth=1, interpolate_offset=0.0)
IMAGES = torch.rand(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
TOKEN: dict[str, Any] = dict(type="TokenObjective")
FEATURE: dict[str, Any] = dict(type="FeatureObjective", cls_term="token")
STANDARDIZED: dict[str, Any] = dict(loss=dict(type="StandardizedMSELoss"))
GELU: dict[str, Any] = dict(head=dict(type="DistillHead", layers=["linear", "gelu"]))
OBJECTIVES: dict[str, dict[str, Any]] = {
    "recipe": dict(token=TOKEN, feature=FEATURE, patch=dict(type="PatchObjective")),
    "two heads of one objective": dict(feature=dict(type="FeatureObjective", **GELU)),
    "standardized": dict(token=TOKEN | STANDARDIZED, feature=FEATURE | STANDARDIZED),
}


def built(objectives: dict[str, Any]) -> Distiller:
    torch.manual_seed(0)
    model = Distiller(
        teacher=dict(type="Teacher", backbone=dict(**SIZE, embed_dim=32, num_heads=4)),
        student=dict(**SIZE, embed_dim=24, num_heads=3, mask_token="patch" in objectives),
        objectives=objectives,
    )
    for value in model.parameters():
        value.data.add_(0.1 * torch.randn_like(value))
    return model


def write_student(model: Distiller, folder: Path) -> Path:
    state = model.student.timm_state()
    architecture, arguments = architecture_of(model.student)
    facts = {"architecture": architecture, "arguments": arguments, "mean": [0.5] * 3, "std": [0.2] * 3}
    export_backbone(state, folder / "student.safetensors", facts)
    write_heads(model, state, folder / "student_heads.safetensors")
    return folder / "student.safetensors"


@pytest.mark.parametrize("name", OBJECTIVES)
def test_mapped_features_are_the_predictions_of_the_run(name: str, tmp_path: Path) -> None:
    model = built(OBJECTIVES[name])
    if name == "standardized":  # needs statistics
        for step in range(2):
            data = {"inputs": IMAGES + step, "data_samples": data_samples(*[{}] * 3)}
            model(**model.data_preprocessor(data, True), mode="loss")
    path = write_student(model, tmp_path)
    mapped: Any = proteus.load_backbone(path, mapped=True)
    with torch.no_grad():
        expected, found = model.predict_tokens(model.student(IMAGES)), mapped(IMAGES)
    torch.testing.assert_close(found.cls, expected["cls"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.patches, expected["patches"], atol=1e-5, rtol=1e-5)
    assert found.cls.shape == (3, 32)
    assert (mapped.embed_dim, mapped.img_size, mapped.patch_size, mapped.grid_for(56)) == (32, 28, 14, (4, 4))


@pytest.mark.parametrize("arch", ["test_convnext", "test_vit"])
def test_heads_of_several_feature_levels_read_them_again(arch: str, tmp_path: Path) -> None:
    """The exported weights are those of timm's model: the file of the heads names the levels."""
    torch.manual_seed(0)
    model = Distiller(
        teacher=dict(
            type="Teacher", backbone={**SIZE, "img_size": 64, "patch_size": 16, "embed_dim": 32, "num_heads": 4}
        ),
        student=dict(type="TimmBackbone", arch=arch, img_size=64, levels=(-2, -1)),
        objectives=dict(token=TOKEN, feature=FEATURE),
    ).eval()
    path = write_student(model, tmp_path)
    assert levels_of(tmp_path / "student_heads.safetensors") == model.student.feature_levels
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    proteus.export(path, tmp_path / "out", ["timm"], report=lambda _: None)
    for mapped in (proteus.load_backbone(path, mapped=True), proteus.load_backbone(tmp_path / "out", mapped=True)):
        with torch.no_grad():
            expected, found = model.predict_tokens(model.student(images)), mapped(images)
        torch.testing.assert_close(found.cls, expected["cls"], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.patches, expected["patches"], atol=1e-5, rtol=1e-5)
    assert proteus.load_backbone(path)(images).patches.shape[-1] == model.student.embed_dim


def test_a_model_folder_keeps_the_heads(tmp_path: Path) -> None:
    path = write_student(built(OBJECTIVES["recipe"]), tmp_path)
    out = tmp_path / "out"
    lines: list[str] = []
    proteus.export(path, out, ["timm"], report=lines.append)
    assert f"heads: {out / HEADS}" in lines
    assert "load_backbone(folder, mapped=True)" in (out / "README.md").read_text()
    expected: Any = proteus.load_backbone(path, mapped=True)
    proteus.export(out, out, ["timm"], overwrite=True, report=lines.append)
    with torch.no_grad():
        for found in (proteus.load_backbone(out, mapped=True), proteus.load_backbone(f"{out}#mapped")):
            torch.testing.assert_close(found(IMAGES).patches, expected(IMAGES).patches)
        assert proteus.load_backbone(out)(IMAGES).cls.shape == (3, 24)
        # At another size only the position embedding differs.
        assert proteus.load_backbone(out, img_size=56, mapped=True)(torch.rand(1, 3, 56, 56)).cls.shape == (1, 32)


def test_an_evaluation_reads_mapped_features(tmp_path: Path) -> None:
    path = write_student(built(OBJECTIVES["recipe"]), tmp_path)
    spec, plain = backbone_spec(f"{path}#mapped", img_size=28), backbone_spec(str(path), img_size=28)
    assert spec.digest != plain.digest  # features of the two are not mixed up in a cache
    about = backbone_summary(spec, "cpu")
    assert (about["width"], about["img_size"]) == (32, 28)
    probe = LinearProbe(spec.config, num_classes=3, layers=(1,))
    assert probe.tokens(IMAGES).shape[-1] == 32
    with pytest.raises(ValueError, match="gives its last features only"):
        LinearProbe(spec.config, num_classes=3)


def test_heads_of_other_weights_are_refused(tmp_path: Path) -> None:
    model = built(OBJECTIVES["recipe"])
    path = write_student(model, tmp_path)
    model.student.vit.cls_token.data.add_(1)
    export_backbone(model.student.timm_state(), tmp_path / "student.safetensors", {})
    with pytest.raises(CheckpointError, match=r"student_heads\.safetensors holds the heads of other weights"):
        read_heads(tmp_path / "student_heads.safetensors", load_file(path))


def test_missing_heads(tmp_path: Path) -> None:
    path = write_student(built(OBJECTIVES["recipe"]), tmp_path)
    (tmp_path / "student_heads.safetensors").unlink()
    with pytest.raises(UserError, match=r"student_heads\.safetensors is missing; a run writes the heads with"):
        proteus.load_backbone(path, mapped=True)


@pytest.mark.parametrize(
    ("objectives", "words"),
    [
        (dict(token=TOKEN), "has no head for patches tokens"),
        (dict(gram=dict(type="PatchRelationObjective")), "has no head for cls tokens"),
    ],
)
def test_models_without_heads(objectives: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        heads_of(built(objectives))


def test_a_head_of_another_class() -> None:
    model = built(OBJECTIVES["recipe"])
    model.objectives["token"].head = nn.Identity()
    with pytest.raises(UserError, match="has the head Identity for cls tokens"):
        heads_of(model)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (None, "does not describe heads"),
        ({"student": 1}, "does not describe heads"),
        ({"levels": [-1]}, "is not what Proteus writes"),
        ({"levels": "01"}, "is not what Proteus writes"),
        ({"cls": {"in_dim": 24, "out_dim": 10**9, "layers": ["linear"]}}, "is not what Proteus writes"),
        ({"cls": {"in_dim": 24, "out_dim": 32, "layers": ["linear"], "type": "x"}}, "is not what Proteus writes"),
        ({"cls": {"in_dim": 24, "out_dim": 32, "layers": ["norm"]}}, "with 'linear' once"),
        ({"cls": {"in_dim": 24, "out_dim": 31, "layers": ["norm", "linear"]}}, "shape"),
    ],
)
def test_a_file_that_somebody_else_wrote(change: dict[str, Any] | None, words: str, tmp_path: Path) -> None:
    model = built(OBJECTIVES["recipe"])
    path = write_student(model, tmp_path)
    heads = tmp_path / "student_heads.safetensors"
    tensors = load_file(heads)
    about = {kind: {"in_dim": 24, "out_dim": 32, "layers": ["norm", "linear"]} for kind in ("cls", "patches")}
    content = {**about, "student": student_digest(load_file(path)), **(change or {})}
    save_file(tensors, heads, None if change is None else {"proteus_heads": json.dumps(content)})
    with pytest.raises(CheckpointError, match=words):
        read_heads(heads, load_file(path))
