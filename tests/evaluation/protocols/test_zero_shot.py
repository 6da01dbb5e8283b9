"""Zero-shot classification of a tiny student with heads, by prepared class embeddings."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from protocol_runs import PIPELINE, SETS
from safetensors.torch import save_file

import proteus
from proteus.apis.evaluate import protocol_configs
from proteus.checkpoints import export_backbone
from proteus.config.locate import configs_root
from proteus.evaluation.protocols import ProtocolResult, ZeroShot
from proteus.models import Distiller
from proteus.models.backbones import architecture_of
from proteus.models.heads.head_file import write_heads
from proteus.structures import ConfigError, UserError

NAMES = ["big dog", "cat", "sea"]
SIZE = dict(type="ViT", arch="tiny", img_size=28, patch_size=14, depth=1, interpolate_offset=0.0)
CLASSES = np.random.default_rng(5).normal(size=(3, 2, 32)).astype("float32")
PROJECTION = np.random.default_rng(6).normal(size=(32, 20)).astype("float32")
PROJECTED = np.random.default_rng(7).normal(size=(3, 20)).astype("float32")


def colour(label: int, number: int) -> np.ndarray:
    return np.random.default_rng(10 * label + number).integers(0, 255, (28, 28, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student with heads for a teacher of width 32, labelled images, class embeddings and a projection."""
    folder = tmp_path_factory.mktemp("zero_shot")
    torch.manual_seed(0)
    model = Distiller(
        teacher=dict(type="Teacher", backbone=dict(**SIZE, embed_dim=32, num_heads=4)),
        student=dict(**SIZE, embed_dim=24, num_heads=3),
        objectives=dict(feature=dict(type="FeatureObjective")),
    )
    for value in model.parameters():
        value.data.add_(0.3 * torch.randn_like(value))
    state = model.student.timm_state()
    architecture, arguments = architecture_of(model.student)
    facts = {"architecture": architecture, "arguments": arguments, "mean": [0.5] * 3, "std": [0.2] * 3}
    export_backbone(state, folder / "student.safetensors", facts)
    write_heads(model, state, folder / "student_heads.safetensors")
    for label, name in enumerate(NAMES):
        for part, count in (("train", 1), ("test", 5 + label)):
            path = folder / "own" / part / name.replace(" ", "_")
            path.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(colour(label, number)).save(path / f"{number}.png")
    save_file(dict(zip(NAMES, torch.from_numpy(CLASSES), strict=True)), folder / "own.safetensors")
    save_file(dict(zip(NAMES, torch.from_numpy(PROJECTED), strict=True)), folder / "projected.safetensors")
    save_file({"visual.proj": torch.from_numpy(PROJECTION)}, folder / "clip.safetensors")
    return folder


def run(place: Path, out: Path, overrides: Mapping[str, Any], backbone: str = "student.safetensors#mapped") -> Any:
    results = proteus.evaluate(
        place / backbone,
        sets=[place / "own"],
        protocols=["zero-shot"],
        out=out,
        img_size=28,
        cache=place / "features",
        device="cpu",
        workers=0,
        overrides={f"protocol.{key}": str(value) for key, value in overrides.items()},
    )
    return results["zero-shot"]


def accuracy(place: Path, classes: np.ndarray, projection: np.ndarray | None = None) -> float:
    """Classify the test images independently."""
    backbone: Any = proteus.load_backbone(place / "student.safetensors", mapped=True)
    hits = []
    for label in range(3):
        for number in range(5 + label):
            pixels = (torch.from_numpy(colour(label, number)).permute(2, 0, 1) / 255 - 0.5) / 0.2
            token = backbone(pixels[None]).cls[0].numpy()
            token = token if projection is None else token @ projection
            scores = [token @ each / np.linalg.norm(token) / np.linalg.norm(each) for each in classes]
            hits.append(int(np.argmax(scores)) == label)
    return 100 * float(np.mean(hits))


def test_a_mapped_student_is_classified_by_hand(place: Path, tmp_path: Path) -> None:
    result: ProtocolResult = run(place, tmp_path, {"class_embeddings": place / "own.safetensors"})
    unit = CLASSES / np.linalg.norm(CLASSES, axis=-1, keepdims=True)
    expected = accuracy(place, unit.mean(1))
    assert result.failed == {}
    row = result.rows["own"]
    assert row["test"] == pytest.approx(expected)
    assert 0 < expected < 100
    assert (row["metric"], row["classes"], row["images"]) == ("top1", 3, 18)
    assert result.notes == ["class embeddings: own.safetensors; image projection: none"]
    assert "Zero-shot classification" in (tmp_path / "report.md").read_text()
    # Training images are not encoded.
    assert [path.name.rpartition("-cls-")[0] for path in (place / "features").glob("own-*")] == ["own-test"]


def test_the_projection_of_the_teacher_comes_before_the_cosine(place: Path, tmp_path: Path) -> None:
    files = {"class_embeddings": place / "projected.safetensors", "projection": place / "clip.safetensors"}
    result = run(place, tmp_path, files)
    assert result.rows["own"]["test"] == pytest.approx(accuracy(place, PROJECTED, PROJECTION))
    refused = run(place, tmp_path / "without", {"class_embeddings": place / "projected.safetensors"}).failed["own"]
    assert "gives tokens of width 32, and the class embeddings have 20: a CLIP compares the projected" in refused
    assert refused.endswith("name the teacher's weights in protocol.projection")
    other = run(place, tmp_path / "other", {**files, "class_embeddings": place / "own.safetensors"}).failed["own"]
    assert "projects to width 20, and the class embeddings have 32: take both from one teacher" in other
    plain = run(place, tmp_path / "plain", files, "student.safetensors").failed["own"]
    assert "projects tokens of width 32, and" in plain
    remedy = "to map a student's tokens to its teacher's width, write"
    assert plain.endswith(f"gives 24; {remedy} {place}/student.safetensors#mapped")


def test_names_from_a_file_and_missing_classes(place: Path, tmp_path: Path) -> None:
    (tmp_path / "names").mkdir()
    files = {"class_embeddings": place / "own.safetensors", "names": tmp_path / "names"}
    (tmp_path / "names/own.txt").write_text("cat\nbig dog\nsea\n")
    result = run(place, tmp_path / "out", files)
    assert result.rows["own"]["test"] == pytest.approx(
        accuracy(place, (CLASSES / np.linalg.norm(CLASSES, axis=-1, keepdims=True)).mean(1)[[1, 0, 2]])
    )
    # The lists count among what the stored result depends on.
    (tmp_path / "names/own.txt").write_text("cat\nhound\nocean\n")
    failed = run(place, tmp_path / "out", files).failed["own"]
    assert "has no class 'hound' (2 of 3 classes are missing); it has 'big dog', 'cat', 'sea'" in failed


def test_classes_of_one_name_are_reported(place: Path, tmp_path: Path) -> None:
    """OpenAI's names of ImageNet have two such pairs: the images of the later class count as errors."""
    (tmp_path / "names").mkdir()
    (tmp_path / "names/own.txt").write_text("cat\nsea\ncat\n")
    files = {"class_embeddings": place / "own.safetensors", "names": tmp_path / "names"}
    row = run(place, tmp_path / "out", files).rows["own"]
    assert row["remarks"] == "several classes with the name 'cat'"
    unit = (CLASSES / np.linalg.norm(CLASSES, axis=-1, keepdims=True)).mean(1)
    assert row["test"] == pytest.approx(accuracy(place, unit[[1, 2, 1]]))


def test_a_missing_package_is_one_line(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    files = {"text_tower": "ViT-B-16", "text_weights": place / "clip.safetensors"}
    failed = run(place, tmp_path, files).failed["own"]
    assert "pip install 'proteus-toolbox[text]'" in failed
    assert "\n" not in failed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"class_embeddings": "{own}", "text_tower": "ViT-B-16"}, "write one of them, a file of class embeddings or"),
        ({"text_tower": "ViT-B-16"}, "protocol.text_tower and protocol.text_weights: write both"),
        ({"class_embeddings": "none.npy"}, "protocol.class_embeddings: none.npy is missing"),
        ({"class_embeddings": "{own}", "projection": "none"}, "protocol.projection: none is missing"),
        ({"class_embeddings": "{own}", "names": "none"}, "protocol.names: none is missing"),
        ({"class_embeddings": "{own}", "templates": ["a dog"]}, "protocol.templates: 'a dog' has no '{}'"),
        ({"class_embeddings": "{own}", "templates": [5]}, "protocol.templates: 5 has no '{}'"),
        ({"class_embeddings": "{own}", "templates": []}, "protocol.templates is empty"),
    ],
)
def test_a_wrong_option_is_refused(place: Path, options: dict[str, Any], words: str) -> None:
    given = {
        key: value.replace("{own}", str(place / "own.safetensors")) if isinstance(value, str) else value
        for key, value in options.items()
    }
    with pytest.raises(ValueError, match=words):
        ZeroShot(sets=SETS, pipeline=PIPELINE, **given)


def test_a_source_of_embeddings_is_needed(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"class_embeddings and protocol.text_tower are missing: write one of them"):
        run(place, tmp_path, {})


def test_a_wrong_key_is_reported_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'class_embeddings'"):
        protocol_configs(["zero-shot"], configs_root(), {"protocol.class_embedings": "a.npy"})
