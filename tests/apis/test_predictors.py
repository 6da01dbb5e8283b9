"""What stands between a trained model and one picture, without the test loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inference_runs import random_model, write_picture, write_trained
from matplotlib import colormaps
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image
from torch import nn

from proteus.apis import ConfigError, load_config
from proteus.apis import test as run_test
from proteus.apis.predictors import Classifier, DepthPredictor, Predictor, Segmenter, build_predictor
from proteus.checkpoints import CheckpointError
from proteus.structures import DataError

KINDS = {"depth": DepthPredictor, "probe": Classifier, "segmentation": Segmenter, "finetune": Classifier}
_NEEDS = {"segmentation": "mmseg", "finetune": "mmpretrain"}
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predictors")


@pytest.fixture
def picture(tmp_path: Path) -> Image.Image:
    return Image.open(write_picture(tmp_path / "a.png")).convert("RGB")


def config_of(place: Path, kind: str) -> tuple[Config, Path]:
    if kind in _NEEDS:
        pytest.importorskip(_NEEDS[kind])
    config, checkpoint = place / f"{kind}.py", place / f"{kind}.pth"
    if not checkpoint.is_file():
        write_trained(place, kind)
    return load_config(config), checkpoint


class Eye(nn.Module):
    """Returns a given output, for predictors that only draw."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.decode_head = nn.Module()
        self.decode_head.num_classes = classes  # type: ignore[assignment]


def drawing(kind: type[Any], dataset: dict[str, Any], **options: Any) -> Any:
    cfg = Config(
        {"test_dataloader": {"dataset": {"pipeline": [], **dataset}}, "test_evaluator": options.pop("evaluator", None)}
    )
    return kind(cfg, Eye(options.pop("count", 3)), "cpu", **options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_and_a_checkpoint_become_a_predictor(place: Path, kind: str) -> None:
    cfg, checkpoint = config_of(place, kind)
    # The file that training started from is gone; the checkpoint holds the backbone.
    cfg.model.backbone.checkpoint = "gone/backbone.safetensors"
    predictor = build_predictor(cfg, checkpoint, "cpu")
    assert type(predictor) is KINDS[kind]
    assert cfg.model.backbone.checkpoint == "gone/backbone.safetensors"
    cfg.model.backbone.checkpoint = None
    wanted = random_model(cfg).state_dict()
    found = predictor.model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    modules = list(predictor.model.modules())
    assert not any(module.training for module in modules)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in modules)


@pytest.mark.parametrize(
    "weights", [{"pretrained": "gone.pth"}, {"init_cfg": {"type": "Pretrained", "checkpoint": "gone.pth"}}]
)
@pytest.mark.parametrize("kind", ["depth", "probe"])
def test_the_file_that_training_started_from_may_be_gone(place: Path, kind: str, weights: dict[str, Any]) -> None:
    cfg, checkpoint = config_of(place, kind)
    cfg.model.backbone.update(weights)
    assert type(build_predictor(cfg, checkpoint, "cpu")) is KINDS[kind]
    # Of all files, a test lacks its images alone.
    cfg.test_dataloader.dataset.data_root = "gone"
    with pytest.raises(ConfigError, match=r"test_dataloader\.dataset\.data_root") as caught:
        run_test(cfg, checkpoint)
    assert "backbone" not in str(caught.value)


def test_a_segmentors_pretrained_file_may_be_gone(place: Path) -> None:
    cfg, checkpoint = config_of(place, "segmentation")
    cfg.model.pretrained = "gone.pth"
    assert type(build_predictor(cfg, checkpoint, "cpu")) is Segmenter


def test_probabilities_equal_those_of_the_best_head_computed_by_hand(place: Path, picture: Image.Image) -> None:
    cfg, checkpoint = config_of(place, "probe")
    predictor = build_predictor(cfg, checkpoint, "cpu")
    model = predictor.model
    # The third learning rate of the last input: four cls tokens and the mean patch.
    bank, index = len(model.inputs) - 1, 2
    assert (model.inputs[bank].layers, model.inputs[bank].avgpool) == (4, True)
    model.best_head.fill_(bank * len(model.learning_rates) + index)
    # 48 x 36 px to 42 x 32 px, and the middle 28 x 28 px of that.
    resized = picture.resize((42, 32), Image.Resampling.BICUBIC)
    left, top = (42 - 28) // 2, (32 - 28) // 2
    pixels = np.asarray(resized.crop((left, top, left + 28, top + 28))) / 255
    image = torch.from_numpy(((pixels - MEAN) / STD).transpose(2, 0, 1)).float()[None]
    with torch.no_grad():
        levels = model.backbone.levels(image, range(-4, 0))
        read = torch.cat([*(level.cls for level in levels), levels[-1].patches.mean(1)], 1)
        heads = model.heads[model.inputs[bank].input_name]
        wanted = (read @ heads.weights[index].T + heads.biases[index]).softmax(-1)[0].numpy()
    found = predictor.predict(picture, "a.png")
    assert found.shape == (7,)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert predictor.predict(picture, "b.png") == pytest.approx(found)


def test_the_five_best_classes() -> None:
    scores = np.array([0.1, 0.3, 0.05, 0.3, 0.02, 0.2, 0.03], np.float32)
    dataset = {"type": "LabelledFolder"}
    numbered = drawing(Classifier, dataset)
    assert [name for name, _ in numbered.best(scores)] == ["1", "3", "5", "0", "2"]  # the first of equals first
    assert [score for _, score in numbered.best(scores)] == pytest.approx([0.3, 0.3, 0.2, 0.1, 0.05])
    named = drawing(Classifier, dataset, classes=["no", "yes"])
    assert named.best(np.array([0.25, 0.75], np.float32)) == [("yes", 0.75), ("no", 0.25)]


@pytest.mark.parametrize("classes", [["a"] * 6, ["a"] * 8])
def test_the_number_of_names_must_match_the_classes(place: Path, picture: Image.Image, classes: list[str]) -> None:
    cfg, checkpoint = config_of(place, "probe")
    predictor = build_predictor(cfg, checkpoint, "cpu", classes)
    with pytest.raises(DataError, match=f"--classes has {len(classes)} classes, but the model has 7"):
        predictor.predict(picture, "a.png")


@pytest.mark.parametrize("size", [(48, 36), (30, 55), (28, 28)])
def test_dense_predictions_have_the_pictures_size(place: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    picture = Image.open(write_picture(tmp_path / "a.png", size=size)).convert("RGB")
    depth = build_predictor(*config_of(place, "depth"), "cpu").predict(picture, "a.png")
    assert (depth.shape, depth.dtype) == (size[::-1], np.float32)
    labels = build_predictor(*config_of(place, "segmentation"), "cpu").predict(picture, "a.png")
    assert (labels.shape, labels.dtype) == (size[::-1], np.uint8)


def test_the_colour_scale_is_per_video_or_per_picture() -> None:
    picture = Image.new("RGB", (60, 40))
    depth = np.full((40, 60), 2.0, np.float32)
    depth[:, :30] = 4.0
    turbo = colormaps["turbo"]

    def colours(image: Image.Image) -> list[tuple[int, ...]]:
        return [image.getpixel((60 + 8 + column, 20)) for column in (10, 50)]

    def wanted(*shares: float) -> list[tuple[int, ...]]:
        return [tuple(round(255 * float(value)) for value in turbo(share)[:3]) for share in shares]

    dataset = {"type": "NYUDepth"}
    plain = drawing(DepthPredictor, dataset, evaluator={"type": "DepthMetric", "max_depth": 8.0})
    assert colours(plain.draw(picture, depth)) == wanted(1.0, 0.5)
    assert colours(plain.frame(picture, depth)) == wanted(0.5, 0.25)
    given = drawing(DepthPredictor, dataset, max_depth=5.0)
    assert colours(given.draw(picture, depth)) == colours(given.frame(picture, depth)) == wanted(0.8, 0.4)
    for evaluator in (None, [{"type": "DepthMetric", "max_depth": 8.0}], {"type": "DepthMetric"}):
        unknown = drawing(DepthPredictor, dataset, evaluator=evaluator)
        assert colours(unknown.frame(picture, depth)) == wanted(0.4, 0.2)  # of 10 metres
    assert colours(plain.draw(picture, np.zeros_like(depth))) == wanted(0.0, 0.0)


def test_a_frame_is_the_picture_blended_with_class_colours() -> None:
    meta = {"classes": ("sky", "sea"), "palette": [[0, 100, 200], [50, 250, 10]]}
    segmenter = drawing(Segmenter, {"type": "SegmentationSet", "metainfo": meta}, count=2)
    picture = Image.new("RGB", (3, 2), (100, 150, 50))
    frame = np.asarray(segmenter.frame(picture, np.array([[0, 0, 1], [1, 1, 1]], np.uint8)))
    # 0.4 of the picture and 0.6 of the colour.
    assert frame.shape == (2, 3, 3)
    assert frame[0, 0].tolist() == [40, 120, 140]
    assert frame[1, 0].tolist() == [70, 210, 26]
    drawn = np.asarray(segmenter.draw(picture, np.zeros((2, 3), np.uint8)))
    assert drawn.shape[1] == 3 + 8 + 3  # no ground truth


def test_classes_of_ade20k_and_unnamed_classes() -> None:
    pytest.importorskip("mmseg.datasets")
    known = drawing(Segmenter, {"type": "mmseg.ADE20KDataset"}, count=150)
    assert len(known.classes) == len(known.palette) == 150
    assert known.classes[:2] == ["wall", "building"]
    unknown = [drawing(Segmenter, {"type": "SegmentationSet", "metainfo": None}) for _ in range(2)]
    assert unknown[0].classes == ["0", "1", "2"]
    assert len({tuple(colour) for colour in unknown[0].palette}) == 3
    assert unknown[0].palette == unknown[1].palette  # the same in the next process


class FileReader:
    """Loader of a user, found by its attribute."""

    reads_files = True

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError


def test_the_pipeline_after_loading() -> None:
    init_default_scope("proteus")
    steps = [
        {"type": "LoadImage"},
        {"type": FileReader},
        {"type": "mmseg.LoadAnnotations"},
        {"type": "proteus.CheckLabels", "num_classes": 3},
        {"type": "ResizeEdge", "scale": 32},
        {"type": "ToTensor"},
    ]
    inner = {"type": "A", "dataset": {"type": "B", "dataset": {"type": "C", "pipeline": steps}}}
    for key in ("test_dataloader", "val_dataloader"):
        predictor = Classifier(Config({"default_scope": "proteus", key: {"dataset": inner}}), Eye(), "cpu")
        assert [type(step).__name__ for step in predictor.pipeline.transforms] == ["ResizeEdge", "ToTensor"]
        sample = predictor.sample(Image.new("RGB", (64, 48)), "a.png")
        assert sample["img"].shape == (3, 32, 42)
        assert sample["ori_shape"] == (48, 64)


@pytest.mark.parametrize("dataset", [{}, {"type": "FeatureTable", "features": "x.npy"}, {"dataset": {"type": "A"}}])
def test_data_without_a_pipeline(dataset: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"test_dataloader\.dataset has no pipeline that prepares images"):
        Classifier(Config({"test_dataloader": {"dataset": dataset}}), Eye(), "cpu")


def test_models_without_predictions_are_refused(place: Path) -> None:
    cfg, checkpoint = config_of(place, "probe")
    backbone = cfg.model.backbone
    cfg.model = {**backbone, "depth": 3}
    with pytest.raises(ConfigError, match=r"model\.type=ViT: write a config of a segmentor, a DepthEstimator or"):
        build_predictor(cfg, checkpoint, "cpu")


def test_a_checkpoint_of_another_model(place: Path) -> None:
    cfg, _ = config_of(place, "probe")
    _, other = config_of(place, "depth")
    with pytest.raises(CheckpointError, match=r"depth\.pth"):
        build_predictor(cfg, other, "cpu")
    with pytest.raises(CheckpointError, match="gone"):
        build_predictor(cfg, place / "gone.pth", "cpu")


def test_the_base_class_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Predictor(Config(), Eye(), "cpu")  # type: ignore[abstract]
