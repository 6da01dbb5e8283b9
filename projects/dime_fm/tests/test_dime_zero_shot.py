"""Zero-shot evaluation on several sets with one command."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from runs import ROOT
from timm.data import ImageNetInfo

from projects.dime_fm import zero_shot
from projects.dime_fm.imagenet_v2 import ImageNetV2
from proteus.apis import ConfigError, load_config
from proteus.checkpoints import CheckpointError
from proteus.evaluation.text.open_clip_parts import open_clip, tokenizer
from proteus.structures import DataError

CONFIG = """
default_scope = "proteus"
custom_imports = dict(imports=["projects.dime_fm.distiller", "projects.dime_fm.losses"])
tower = dict(type="OpenClipText", context_length=16, width=32, layers=1, heads=2)
vit = dict(type="ViT", arch="clip-base", patch_size=14, embed_dim=64, depth=1, num_heads=1)
model = dict(
    type="UnpairedDistiller",
    teacher=dict(
        type="FrozenDualEncoder",
        seed=3,
        encoder=dict(type="DualEncoder", embed_dim=24, img_size=28, scale=20.0, image=vit, text=tower),
    ),
    student=dict(type="DualEncoder", embed_dim=24, img_size=28, image=vit, text=tower),
    losses=dict(score=dict(type="ScoreDistillationLoss")),
)
val_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeEdge", scale=28, interpolation="bicubic"),
    dict(type="CenterCrop", crop_size=28),
    dict(type="ToTensor"),
    dict(type="PackInputs"),
]
"""


def colour(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, 3).astype(np.uint8)


def put(path: Path, number: int, size: int = 28) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.broadcast_to(colour(number), (size, size, 3)).copy()).save(path)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A config, and a checkpoint of a student other than the config's random one."""
    (tmp_path / "small.py").write_text(CONFIG)
    cfg = load_config(tmp_path / "small.py")
    torch.manual_seed(5)
    model = zero_shot.load_model(cfg, None, "cpu")
    torch.save({"state_dict": model.state_dict()}, tmp_path / "iter_1.pth")
    (tmp_path / "data").mkdir()
    return tmp_path


def arguments(place: Path, **changes: Any) -> Namespace:
    values = {
        "config": str(place / "small.py"),
        "checkpoint": str(place / "iter_1.pth"),
        "data_root": place / "data",
        "protocols": ["sets"],
        "sets": [],
        "folders": [],
        "names": None,
        "of": ["student", "teacher"],
        "out": place / "out",
        "batch_size": 7,
        "workers": 0,
        "device": "cpu",
        "cfg_options": None,
    }
    return Namespace(**{**values, **changes})


def found(place: Path, protocol: str = "sets") -> dict[str, Any]:
    return json.loads((place / "out/zero_shot.json").read_text())["protocols"][protocol]


def scores(place: Path, who: str, prompts: list[list[str]], numbers: list[int]) -> torch.Tensor:
    """Cosine scores of uniform images of the given colours, computed independently."""
    model = zero_shot.load_model(load_config(place / "small.py"), str(place / "iter_1.pth"), "cpu")
    encoder = model.student if who == "student" else model.teacher.encoder
    pixels = torch.from_numpy(np.stack([colour(number) for number in numbers])).float()[:, :, None, None] / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        images = encoder.encode_images(((pixels - mean) / std).expand(-1, -1, 28, 28))
        classes = []
        for sentences in prompts:
            texts = encoder.encode_texts(tokenizer()(sentences, context_length=16))
            classes.append((texts / texts.norm(dim=1, keepdim=True)).mean(0))
    texts = torch.stack(classes)
    return (images / images.norm(dim=1, keepdim=True)) @ (texts / texts.norm(dim=1, keepdim=True)).T


def test_folders_are_evaluated_and_averaged(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["big dog", "cat", "sea"]
    for label, name in enumerate(names):
        for number in range(4 + label):
            put(place / f"flat/{name.replace(' ', '_')}/{number}.png", 10 * label + number)
            put(place / f"parts/test/{name}/{number}.png", 100 + 10 * label + number)
        put(place / f"parts/train/{name}/0.png", 0)
    assert zero_shot.main(arguments(place, folders=[str(place / "flat"), str(place / "parts")])) == 0
    rows = found(place)["rows"]
    templates = ["a photo of a {}.", "a good photo of a {}.", "a photo of one {}.", "a close photo of a {}."]
    prompts = [[template.replace("{}", name) for template in templates] for name in names]
    labels = torch.tensor([0] * 4 + [1] * 5 + [2] * 6)
    for who in ("student", "teacher"):
        for title, first in (("flat", 0), ("parts", 100)):
            numbers = [first + 10 * label + number for label in range(3) for number in range(4 + label)]
            wanted = (scores(place, who, prompts, numbers).argmax(1) == labels).float().mean().item() * 100
            assert rows[title][who] == pytest.approx(wanted)
        assert rows["average of 2 of 2"][who] == pytest.approx((rows["flat"][who] + rows["parts"][who]) / 2)
    assert rows["flat"]["student"] != rows["flat"]["teacher"] or rows["parts"]["student"] != rows["parts"]["teacher"]
    assert rows["flat"]["prompts per class"] == 4
    table = (place / "out/zero_shot.md").read_text()
    assert "|  | student | teacher | metric | images | classes | prompts per class | remarks |" in table
    assert "average of 2 of 2" in capsys.readouterr().out

    (place / "names").mkdir()
    (place / "names/flat.txt").write_text("hound\ncat\nocean\n")
    zero_shot.main(arguments(place, folders=[str(place / "flat")], names=place / "names", of=["student"]))
    prompts = [[template.replace("{}", name) for template in templates] for name in ("hound", "cat", "ocean")]
    numbers = [10 * label + number for label in range(3) for number in range(4 + label)]
    wanted = (scores(place, "student", prompts, numbers).argmax(1) == labels).float().mean().item() * 100
    assert found(place)["rows"]["flat"]["student"] == pytest.approx(wanted)


def test_missing_and_broken_sets_are_reported(place: Path) -> None:
    voc = place / "data/VOC2007"
    (voc / "ImageSets/Main").mkdir(parents=True)
    from proteus.datasets.fine_grained.voc2007 import CLASSES

    for position, name in enumerate(CLASSES):
        lines = [f"{number:06} {1 if number == position else -1}" for number in range(20)]
        (voc / f"ImageSets/Main/{name}_test.txt").write_text("\n".join(lines))
    for number in range(20):
        put(voc / f"JPEGImages/{number:06}.jpg", number)
    put(place / "data/dtd/images/banded/1.jpg", 0)
    (place / "data/dtd/labels").mkdir()
    (place / "data/dtd/labels/train1.txt").write_text("banded/1.jpg")
    assert zero_shot.main(arguments(place, of=["student"])) == 1
    result = found(place)
    assert set(result["rows"]) == {"voc2007", "average of 1 of 14"}
    row = result["rows"]["voc2007"]
    assert row["metric"] == "11-point mAP"
    # The average precision of a class with one image is the inverse of its rank.
    prompts = [[t.replace("{}", name) for t in ("a photo of a {}.", "a photo of a {} among other things.")]
               for name in (ROOT / "proteus/evaluation/text/names/voc2007.txt").read_text().splitlines()]  # fmt: skip
    ranks = scores(place, "student", prompts, list(range(20))).argsort(0, descending=True).argsort(0).diagonal() + 1
    # JPEG changes colours slightly.
    assert row["student"] == pytest.approx(100 * (1 / ranks).mean().item(), abs=8)
    assert "test1.txt is missing" in result["failed"]["dtd"]
    assert "annotations/trainval.txt" in result["missing"]["pets"]
    assert len(result["missing"]) == 12
    table = (place / "out/zero_shot.md").read_text()
    assert "- not on disk: pets: " in table
    assert "- failed: dtd: " in table


def test_an_unreadable_image_stops_its_set(place: Path) -> None:
    put(place / "flat/a/1.png", 0)
    put(place / "flat/b/1.png", 1)
    (place / "flat/b/2.png").write_bytes(b"nothing")
    assert zero_shot.main(arguments(place, folders=[str(place / "flat")])) == 1
    assert "b/2.png" in found(place)["failed"]["flat"]
    assert not found(place)["rows"]


def test_robustness_uses_the_core_classes_and_metrics(place: Path) -> None:
    wnids = ImageNetInfo().label_names()
    subset = json.loads((ROOT / "proteus/datasets/robustness/imagenet_subsets.json").read_text())["imagenet_a_classes"]
    for number in subset:
        put(place / f"data/imagenet-a/{wnids[number]}/0.png", number)
    for number in (2, 10):
        put(place / f"data/imagenetv2-matched-frequency-format-val/{number}/0.png", number)
    configs = ROOT / "projects/dime_fm/configs/zero_shot"
    own = place / "few_prompts.py"
    # The base's paths are relative to its own folder.
    tests = {
        name: [f"{configs}/{file}" for file in ([files] if isinstance(files, str) else files)]
        for name, files in load_config(configs / "robustness.py").protocol.tests.items()
    }
    own.write_text(
        f"_base_ = '{configs}/robustness.py'\n"
        f"protocol = dict(templates=['a {{}}.'], tests=dict(_delete_=True, **{tests!r}))\n"
    )
    assert zero_shot.main(arguments(place, protocols=[str(own)])) == 1
    result = found(place, str(own))
    prompts = [[f"a {name}."] for name in open_clip().IMAGENET_CLASSNAMES]
    for who in ("student", "teacher"):
        among = scores(place, who, prompts, subset)[:, subset].argmax(1)
        assert result["rows"]["imagenet-a"][who] == pytest.approx(
            100 * (among == torch.arange(200)).float().mean().item()
        )
    assert set(result["missing"]) == {"imagenet", "imagenet-sketch", "imagenet-r", "imagenet-c"}
    assert "has no image of class 0 and 997 more" in result["failed"]["imagenet-v2"]
    assert result["rows"]["average of 1 of 4"]["student"] == result["rows"]["imagenet-a"]["student"]


def test_imagenet_v2_labels_are_folder_names(tmp_path: Path) -> None:
    for number in (2, 10, 999):
        put(tmp_path / f"{number}/a.png", number)
    found = ImageNetV2(all_classes=False, data_root=str(tmp_path), index_cache=False)
    assert sorted(found.get_data_info(i)["label"] for i in range(3)) == [2, 10, 999]
    put(tmp_path / "1000/a.png", 0)
    with pytest.raises(DataError, match="'1000' is not a class index"):
        ImageNetV2(all_classes=False, data_root=str(tmp_path), index_cache=False)


def test_bad_arguments_are_reported(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"--checkpoint: missing; .*or --of teacher"):
        zero_shot.main(arguments(place, checkpoint=None))
    with pytest.raises(ConfigError, match=r"unknown set 'petz'; choose from aircraft, "):
        zero_shot.main(arguments(place, sets=["petz"]))
    with pytest.raises(ConfigError, match=r"unknown protocol 'set'; choose from sets, robustness"):
        zero_shot.main(arguments(place, protocols=["set"]))
    with pytest.raises(FileNotFoundError, match="no such folder"):
        zero_shot.main(arguments(place, folders=[str(place / "nowhere")]))
    torch.save({"state_dict": {"student.projection.weight": torch.zeros(2, 2)}}, place / "other.pth")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        zero_shot.main(arguments(place, checkpoint=str(place / "other.pth")))
