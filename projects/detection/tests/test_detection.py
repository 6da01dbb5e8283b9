"""A toy set in COCO's layout on disk; the pyramid; a detector that is trained, saved, reloaded and tested."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from PIL import Image
from runs import log_lines, tool, trained, weights, write_teacher

from projects.detection.coco import CocoBoxes
from projects.detection.detector import FCOSDetector
from projects.detection.metric import BoxRecall, matches
from projects.detection.pyramid import DetectorBackbone
from proteus.apis import load_config, train
from proteus.apis import test as run_test
from proteus.models.backbones import DenseTimm, DenseViT
from proteus.registry import OPTIM_WRAPPER_CONSTRUCTORS
from proteus.structures import DataError

PROJECT = Path(__file__).parents[1]
VIT = {
    "type": "DenseViT",
    "img_size": 56,
    "init_values": 1.0,
    "embed_dim": 32,
    "depth": 4,
    "num_heads": 2,
    "out_indices": (0, 1, 2, 3),
}
RECTANGLES = [[(8, 8, 40, 32)], [(50, 20, 44, 60), (4, 60, 30, 30)], [(30, 40, 60, 40)], []]
COLOURS = {3: (220, 40, 40), 7: (40, 60, 220)}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of 112x96 px with red and blue rectangles, and ``boxes.json``."""
    root = tmp_path_factory.mktemp("toy")
    (root / "images").mkdir()
    images, annotations = [], []
    for number, rectangles in enumerate(RECTANGLES):
        pixels = np.full((96, 112, 3), 128, np.uint8)
        for place, (left, top, width, height) in enumerate(rectangles):
            category = 3 if place == 0 else 7
            pixels[top : top + height, left : left + width] = COLOURS[category]
            annotations.append(
                {"image_id": 10 + number, "category_id": category, "bbox": [left, top, width, height], "iscrowd": 0}
            )
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
        images.append({"id": 10 + number, "file_name": f"{number}.png", "width": 112, "height": 96})
    annotations.append({"image_id": 13, "category_id": 3, "bbox": [0, 0, 112, 96], "iscrowd": 1})
    annotations.append({"image_id": 13, "category_id": 3, "bbox": [5, 5, 0, 9]})
    categories = [{"id": 7, "name": "blue"}, {"id": 3, "name": "red"}]
    (root / "boxes.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return root


def make_detector(**backbone: Any) -> FCOSDetector:
    torch.manual_seed(0)
    return FCOSDetector({**VIT, **backbone}, num_classes=2, out_channels=32, min_size=112, max_size=168)


def read(data: CocoBoxes) -> dict[str, list[Any]]:
    samples = [data[index] for index in range(len(data))]
    return {key: [sample[key] for sample in samples] for key in samples[0]}


def test_boxes_are_corners_and_labels_are_positions(toy: Path) -> None:
    data = CocoBoxes(toy / "boxes.json", toy / "images")
    assert data.metainfo == {"classes": ("red", "blue"), "category_ids": (3, 7)}
    assert data[1]["boxes"].tolist() == [[50, 20, 94, 80], [4, 60, 34, 90]]
    assert data[1]["labels"].tolist() == [0, 1]
    assert data[1]["inputs"][:, 30, 60].tolist() == list(COLOURS[3])
    assert data[3]["boxes"].shape == (0, 4)  # a crowd and a box without area
    assert len(data) == 4
    assert len(CocoBoxes(toy / "boxes.json", toy / "images", skip_empty=True)) == 3


def test_a_mirrored_box_still_covers_its_object(toy: Path) -> None:
    sample = CocoBoxes(toy / "boxes.json", toy / "images", flip=1.0)[0]
    left, top, right, bottom = (int(side) for side in sample["boxes"][0])
    assert (right - left, bottom - top) == (40, 32)
    red = torch.tensor(COLOURS[3])[:, None, None]
    assert (sample["inputs"][:, top:bottom, left:right] == red).all()
    assert (sample["inputs"] == red).all(dim=0).sum() == 40 * 32


def test_a_file_in_another_layout_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ann_file='.*none\.json' does not exist"):
        CocoBoxes(tmp_path / "none.json", tmp_path)
    content = {"images": [{"id": 1, "file_name": "é.png"}], "annotations": [], "categories": []}
    (tmp_path / "images.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    with pytest.raises(DataError, match=r"1 of the 1 images of .*images\.json are missing, the first is é\.png"):
        CocoBoxes(tmp_path / "images.json", tmp_path)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(DataError, match=r"list\.json is not in COCO's layout"):
        CocoBoxes(tmp_path / "list.json", tmp_path)


def test_images_have_the_size_that_their_boxes_were_drawn_on(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "a.jpg", "width": 112, "height": 96}
    content = {"images": [image], "annotations": [], "categories": [{"id": 3, "name": "red"}]}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    pixels, turned = Image.new("RGB", (112, 96)), Image.Exif()
    turned[0x0112] = 6
    pixels.save(tmp_path / "a.jpg")
    data = CocoBoxes(tmp_path / "boxes.json", tmp_path)
    assert data[0]["inputs"].shape == (3, 96, 112)
    pixels.save(tmp_path / "a.jpg", exif=turned)
    words = r"a\.jpg: the upright image is 96x112 px, but 112x96 px in .*boxes\.json"
    with pytest.raises(DataError, match=words):
        data[0]
    with pytest.raises(DataError, match=words):
        CocoBoxes(tmp_path / "boxes.json", tmp_path)
    del image["width"]
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    assert CocoBoxes(tmp_path / "boxes.json", tmp_path)[0]["inputs"].shape == (3, 112, 96)


@pytest.mark.parametrize("patch", [14, 16])
def test_pyramid_of_a_vit_has_exact_strides(patch: int) -> None:
    options = {key: value for key, value in VIT.items() if key != "type"}
    levels = DetectorBackbone(DenseViT(**{**options, "img_size": 4 * patch, "patch_size": patch}), 8)
    assert levels.strides == (patch // 2, patch, 2 * patch, 4 * patch)
    shapes = [tuple(each.shape[1:]) for each in levels(torch.zeros(1, 3, 4 * patch, 8 * patch)).values()]
    assert shapes == [(8, 8, 16), (8, 4, 8), (8, 2, 4), (8, 1, 2)]


def test_pyramid_of_a_cnn_keeps_its_strides() -> None:
    levels = DetectorBackbone(DenseTimm("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)), 8)
    assert levels.strides == (4, 8, 16, 32)
    assert [each.shape[-1] for each in levels(torch.zeros(1, 3, 64, 64)).values()] == [16, 8, 4, 2]


def test_pyramid_refuses_blocks_that_it_has_no_levels_for() -> None:
    with pytest.raises(ValueError, match="takes 4 blocks"):
        make_detector(out_indices=(1, 3))


def test_more_categories_than_classes_are_refused(toy: Path) -> None:
    detector = make_detector()
    detector.num_classes = 1
    with pytest.raises(DataError, match=r"model\.num_classes=1: the data set has more categories, at least 2"):
        detector.train()(**read(CocoBoxes(toy / "boxes.json", toy / "images")), mode="loss")


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_reach_the_student_unless_it_is_frozen(toy: Path, frozen: bool) -> None:
    detector = make_detector(frozen=frozen).train()
    losses = detector(**read(CocoBoxes(toy / "boxes.json", toy / "images")), mode="loss")
    assert sorted(losses) == ["loss_bbox_ctrness", "loss_bbox_regression", "loss_classification"]
    sum(losses.values()).backward()
    trained_parts = {name for name, each in detector.named_parameters() if each.grad is not None and each.grad.any()}
    assert any(".pyramid." in name for name in trained_parts)
    assert any("backbone.backbone.vit.blocks.0." in name for name in trained_parts) is not frozen
    expected = {name for name, each in detector.named_parameters() if each.requires_grad}
    assert {name for name, each in detector.named_parameters() if each.grad is not None} == expected


def test_recall_by_hand() -> None:
    truth, classes = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]]), torch.tensor([0, 1])
    found = torch.tensor([[0.0, 0, 10, 5], [0, 0, 10, 10], [20, 0, 30, 4]])
    assert matches(found[:1], torch.tensor([0]), truth, classes) == 1  # IoU of 0.5
    assert matches(found[:1], torch.tensor([1]), truth, classes) == 0
    assert matches(found[2:], torch.tensor([1]), truth, classes) == 0  # IoU of 0.4
    assert matches(found, torch.tensor([0, 0, 1]), truth, classes) == 1  # a box is found once
    assert matches(found[:0], classes[:0], truth, classes) == 0
    assert matches(found, torch.tensor([0, 0, 1]), truth[:0], classes[:0]) == 0


def test_results_are_in_cocos_format(tmp_path: Path) -> None:
    metric = BoxRecall(results_file=str(tmp_path / "out" / "boxes.json"))
    metric.dataset_meta = {"category_ids": (3, 7)}
    box, label = torch.tensor([[1.0, 2, 5, 9]]), torch.tensor([1])
    sample = {"boxes": box, "labels": label, "scores": torch.tensor([0.5]), "image_id": 12}
    metric.process(None, [{**sample, "gt_boxes": box, "gt_labels": label}])
    assert metric.evaluate(1) == {"box/recall50": 100.0}
    assert json.loads((tmp_path / "out" / "boxes.json").read_text()) == [
        {"image_id": 12, "category_id": 7, "bbox": [1, 2, 4, 7], "score": 0.5}
    ]


def test_frozen_config_differs_by_the_backbone_alone() -> None:
    tuned, frozen = (load_config(PROJECT / "configs" / f"vit-s_fcos{kind}.py") for kind in ("", "_frozen"))
    assert frozen.model.backbone.frozen
    assert not tuned.model.backbone.get("frozen")
    assert frozen.optim_wrapper == tuned.optim_wrapper
    assert frozen.train_dataloader == tuned.train_dataloader


@pytest.mark.parametrize("timm", [False, True])
def test_learning_rates_and_weight_decay(timm: bool) -> None:
    """The backbone has a tenth of the rate; norms, biases, LayerScale, positions and cls token have no weight decay."""
    cfg = load_config(PROJECT / "configs/vit-s_fcos.py")
    small = {"type": "DenseTimm", "arch": "convnext_atto", "depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
    detector = FCOSDetector(small if timm else VIT, num_classes=2, out_channels=32)
    settings = cfg.optim_wrapper.to_dict()
    constructor = {"type": settings.pop("constructor"), "paramwise_cfg": settings.pop("paramwise_cfg")}
    init_default_scope("proteus")
    wrapper = OPTIM_WRAPPER_CONSTRUCTORS.build({**constructor, "optim_wrapper_cfg": settings})(detector)
    names = {id(parameter): name for name, parameter in detector.named_parameters()}
    seen = set()
    for group in wrapper.optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            student = ".backbone.backbone." in name
            plain = parameter.ndim > 1 and "pos_embed" not in name and "cls_token" not in name
            assert group["lr"] == pytest.approx(1e-5 if student else 1e-4), name
            assert group["weight_decay"] == (0.05 if plain or (timm and student) else 0), name
            seen.add(name)
    assert seen == {name for name, parameter in detector.named_parameters() if parameter.requires_grad}


def write_config(folder: Path, toy: Path) -> Path:
    write_teacher(folder / "student.safetensors", embed_dim=32, img_size=56, depth=4, num_heads=2, init_values=1.0)
    data = f'ann_file="{toy}/boxes.json", data_root="{toy}/images"'
    (folder / "config.py").write_text(
        f'''_base_ = "{PROJECT}/configs/vit-s_fcos.py"
model = dict(
    backbone=dict(
        img_size=56, embed_dim=32, depth=4, num_heads=2, out_indices=(0, 1, 2, 3),
        drop_path_rate=0.0, checkpoint="{folder}/student.safetensors",
    ),
    num_classes=2, out_channels=32, min_size=112, max_size=168,
)
train_dataloader = dict(batch_size=3, num_workers=0, persistent_workers=False, dataset=dict({data}, flip=0.0))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict({data}))
test_dataloader = val_dataloader
val_evaluator = dict(results_file="{folder}/predictions.json")
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = _base_.param_scheduler
param_scheduler[0].start_factor, param_scheduler[0].end = 1.0, 1
param_scheduler[1].begin, param_scheduler[1].end = 1, 40
train_cfg = dict(max_iters=20, val_interval=20)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=20))
'''
    )
    return folder / "config.py"


def write_boxes(toy: Path, file: Path, numbers: set[int]) -> Path:
    """Write the toy set's annotations with some of its categories alone."""
    content = json.loads((toy / "boxes.json").read_text())
    content["categories"] = [each for each in content["categories"] if each["id"] in numbers]
    content["annotations"] = [each for each in content["annotations"] if each["category_id"] in numbers]
    file.write_text(json.dumps(content))
    return file


def test_categories_are_compared_before_training(toy: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, toy)
    options = {"work_dir": str(tmp_path / "run")}
    with pytest.raises(
        DataError, match=r"^model\.num_classes=3, but train_\S+\.ann_file lists 2 categories: write \S+=2"
    ):
        train(load_config(config, {**options, "model.num_classes": 3}))
    blue = write_boxes(toy, tmp_path / "blue.json", {7})
    words = r"^val_\S+\.ann_file lists 1 categories and train_\S+ 2; the first difference is id 3 \(none and 'red'\)"
    with pytest.raises(DataError, match=words):
        train(load_config(config, {**options, "val_dataloader.dataset.ann_file": str(blue)}))


def test_categories_are_those_that_a_checkpoint_was_trained_on(toy: Path, tmp_path: Path) -> None:
    cfg = load_config(write_config(tmp_path, toy), {"work_dir": str(tmp_path / "run")})
    meta = {"dataset_meta": {"classes": ("red", "green"), "category_ids": (3, 5)}}
    torch.save({"meta": meta, "state_dict": make_detector().state_dict()}, tmp_path / "iter_1.pth")
    with pytest.raises(DataError, match=r"test_\S+ lists 2 .* of the checkpoint 2; .* id 5 \(none and 'green'\)"):
        run_test(cfg, tmp_path / "iter_1.pth")


@pytest.mark.slow
def test_train_save_and_test_from_the_command_line(toy: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, toy)
    output = trained("train.py", config, "--work-dir", tmp_path / "run")
    losses = [float(re.search(r" loss: ([\d.]+)", line)[1]) for line in log_lines(output)]
    assert len(losses) == 20
    assert all(map(math.isfinite, losses))
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])

    saved = tmp_path / "run" / "iter_20.pth"
    result = tool("test.py", config, saved, "--work-dir", tmp_path / "test")
    assert result.returncode == 0, result.stdout + result.stderr
    recall = re.search(r"box/recall50: ([\d.]+)", result.stdout + result.stderr)
    assert recall

    # Weights alone, in another process, predict what tools/test.py wrote.
    detector = make_detector().eval()
    detector.load_state_dict(weights(saved))
    data = read(CocoBoxes(toy / "boxes.json", toy / "images"))
    with torch.no_grad():
        found = [detector([image])[0] for image in data["inputs"]]
    written = json.loads((tmp_path / "predictions.json").read_text())
    assert len(written) == sum(len(each["scores"]) for each in found) > 0
    scores = torch.cat([each["scores"] for each in found])
    torch.testing.assert_close(scores, torch.tensor([line["score"] for line in written]), rtol=1e-4, atol=1e-5)
