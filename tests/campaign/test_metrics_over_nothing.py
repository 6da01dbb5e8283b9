"""Every figure that an evaluation gives, asked of nothing, of one image, and of values that are not numbers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from PIL import Image

from projects.dime_fm.agreement import ScoreAgreement
from proteus.engine.hooks import SegmentorCheckHook
from proteus.evaluation import patch_retrieval
from proteus.evaluation.classifiers.knn import knn_predict
from proteus.evaluation.classifiers.logistic_regression import logistic_regression
from proteus.evaluation.metrics import (
    CorruptionError,
    DepthMetric,
    ProbeAccuracy,
    StudentTeacherAccuracy,
    TeacherAgreement,
    Top1Accuracy,
)
from proteus.evaluation.retrieval import nearest_patch_share
from proteus.evaluation.scores import map11, mean_per_class, top1
from proteus.models.classifiers import Head
from proteus.registry import DATASETS, METRICS
from proteus.structures import DataError, Features

NAN, INF = float("nan"), float("inf")
HEADS = (Head(1, False, 0.1), Head(1, False, 0.01))


def agreement(**change: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    tokens = {
        f"{who}_{kind}": torch.randn(*shape, generator=generator)
        for who in ("student", "teacher")
        for kind, shape in (("cls", (4,)), ("patches", (3, 4)))
    }
    return {**tokens, "img_path": "a.jpg", **change}


def scores(**change: Any) -> dict[str, Any]:
    names = {"student_image": (4,), "teacher_image": (4,), "student_texts": (3, 4), "teacher_texts": (3, 4)}
    return {**{name: torch.ones(shape) for name, shape in names.items()}, "scale": torch.ones(()), **change}


LOGITS = torch.tensor([0.0, 1.0])
SAMPLES: dict[type, dict[str, Any]] = {
    Top1Accuracy: {"logits": LOGITS, "label": 1},
    StudentTeacherAccuracy: {"student_logits": LOGITS, "teacher_logits": LOGITS, "label": 1},
    CorruptionError: {"logits": LOGITS, "label": 1, "corruption": "snow", "severity": 3},
    ProbeAccuracy: {"head_labels": torch.tensor([0, 1]), "heads": HEADS, "label": 1},
    DepthMetric: {"depth": torch.ones(2, 2), "gt_depth": torch.ones(2, 2)},
    TeacherAgreement: agreement(),
    ScoreAgreement: scores(),
}


def metric_of(kind: type) -> Any:
    return DepthMetric(crop=None) if kind is DepthMetric else kind()


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("size", [0, 5], ids=["empty set", "no batch"])
def test_no_image_is_refused(kind: type, size: int) -> None:
    with pytest.raises(DataError, match=rf"{kind.__name__}: no images to compute metrics from"):
        metric_of(kind).evaluate(size)
    with pytest.raises(DataError, match="no images to compute metrics from"):
        metric_of(kind).compute_metrics([])


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (Top1Accuracy, "logits"),
        (StudentTeacherAccuracy, "student_logits"),
        (StudentTeacherAccuracy, "teacher_logits"),
        (CorruptionError, "logits"),
        (DepthMetric, "depth"),
        *((TeacherAgreement, name) for name in ("student_cls", "teacher_cls", "student_patches", "teacher_patches")),
        *((ScoreAgreement, name) for name in ("student_image", "teacher_image", "student_texts", "teacher_texts")),
    ],
)
def test_values_of_a_model_that_are_not_finite_name_the_image(kind: type, key: str, value: float) -> None:
    sample = {**SAMPLES[kind], "img_path": "folder/a.jpg"}
    sample[key] = sample[key].clone()
    sample[key].view(-1)[1] = value
    with pytest.raises(DataError, match=r"folder/a\.jpg: .*NaN or infinite"):
        metric_of(kind).process({}, [sample])


def test_tokens_beyond_half_precision_are_refused() -> None:
    with pytest.raises(DataError, match="teacher_cls"):
        TeacherAgreement().process({}, [agreement(teacher_cls=torch.full((4,), 1e5))])


def test_heads_without_finite_scores_are_refused_only_if_all_are() -> None:
    metric = ProbeAccuracy()
    metric.process({}, [{**SAMPLES[ProbeAccuracy], "head_labels": torch.tensor([-1, 1])}])
    assert metric.evaluate(1) == {"probe/best": 100.0, "probe/best_head": 1}
    with pytest.raises(DataError, match="the scores of all 2 heads are NaN"):
        metric.process({}, [{**SAMPLES[ProbeAccuracy], "head_labels": torch.tensor([-1, -1])}])


@pytest.mark.parametrize("label", [-1, 2, 255])
@pytest.mark.parametrize("kind", [Top1Accuracy, StudentTeacherAccuracy, CorruptionError])
def test_labels_out_of_range_are_refused(kind: type, label: int) -> None:
    with pytest.raises(DataError, match=rf"label {label}"):
        kind().process({}, [{**SAMPLES[kind], "label": label}])


@pytest.mark.parametrize(
    "samples",
    [
        [agreement()],
        [agreement(), agreement()],
        [agreement(teacher_cls=torch.ones(4)), agreement(teacher_cls=torch.ones(4))],
    ],
    ids=["one image", "one image twice", "constant teacher"],
)
def test_agreement_with_a_teacher_that_does_not_vary_is_refused(samples: list[dict[str, Any]]) -> None:
    metric = TeacherAgreement()
    metric.process({}, samples)
    with pytest.raises(DataError, match=r"TeacherAgreement\.cls: .* all the same"):
        metric.evaluate(len(samples))


def test_scores_of_one_image_or_one_sentence_are_refused() -> None:
    for samples in ([scores()], [scores(student_texts=torch.ones(0, 4), teacher_texts=torch.ones(0, 4))] * 3):
        metric = ScoreAgreement()
        metric.process({}, samples)
        with pytest.raises(DataError, match="at least two images and two sentences"):
            metric.evaluate(len(samples))


@pytest.mark.parametrize("target", [0.0, 1e-4, 10.0, NAN, INF, -1.0])
def test_depth_without_a_pixel_that_counts_is_refused(target: float) -> None:
    sample = {"depth": torch.ones(2, 2), "gt_depth": torch.full((2, 2), target), "img_path": "a.png"}
    with pytest.raises(DataError, match=r"a\.png has no ground-truth depth between 0\.001 and 10\.0 m"):
        DepthMetric(crop=None).process({}, [sample])


def test_depth_of_another_size_is_refused() -> None:
    sample = {"depth": torch.ones(1, 2), "gt_depth": torch.ones(2, 2), "img_path": "a.png"}
    with pytest.raises(DataError, match=r"a\.png: predicted depth has \(1, 2\) px and the ground truth \(2, 2\)"):
        DepthMetric(crop=None).process({}, [sample])


def masks(folder: Path, label: int) -> Any:
    for name in ("images", "masks"):
        (folder / name).mkdir()
    Image.new("RGB", (3, 2)).save(folder / "images/a.jpg")
    Image.fromarray(np.full((2, 3), label, np.uint8)).save(folder / "masks/a.png")
    inner = {
        "type": "ADE20KDataset",
        "data_root": str(folder),
        "data_prefix": {"img_path": "images", "seg_map_path": "masks"},
        "pipeline": [{"type": step} for step in ("LoadImageFromFile", "LoadAnnotations", "PackSegInputs")],
    }
    return DATASETS.build(inner)  # mmseg's own: ours refuses such masks before training


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:Mean of empty slice:RuntimeWarning")
@pytest.mark.parametrize("part", ["val", "test"])
def test_masks_without_a_label_that_counts_are_refused(tmp_path: Path, part: str) -> None:
    pytest.importorskip("mmseg")
    init_default_scope("mmseg")
    hook = SegmentorCheckHook()
    for label, refused in ((0, True), (7, False)):
        folder = tmp_path / str(label)
        folder.mkdir()
        data = masks(folder, label)
        sample = data[0]["data_samples"].to_dict()
        sample["pred_sem_seg"] = {"data": torch.zeros(1, 2, 3, dtype=torch.long)}
        metric = METRICS.build({"type": "IoUMetric", "iou_metrics": ["mIoU"]})
        metric.dataset_meta = data.metainfo
        metric.process({}, [sample])
        figures = metric.evaluate(1)
        after = getattr(hook, f"after_{part}_epoch")
        if refused:
            with pytest.raises(DataError, match=rf"{part}_evaluator: .*mIoU.* not finite: no pixel of the masks"):
                after(SimpleNamespace(), figures)
        else:
            after(SimpleNamespace(), figures)


FEATURES = np.random.default_rng(0).normal(size=(8, 3))
LABELS = np.arange(8) % 2


@pytest.mark.parametrize(
    "change",
    [
        {"train_features": np.zeros((0, 3)), "train_labels": np.zeros(0, int)},
        {"test_features": np.zeros((0, 3))},
        {"train_features": np.full((8, 3), NAN)},
        {"test_features": np.full((2, 3), INF)},
        {"train_features": np.zeros((8, 3))},
        {"train_labels": LABELS - 1},
        {"train_labels": LABELS + 0.5},
        {"train_labels": LABELS[:5]},
        {"num_classes": 1},
        {"ks": (9,)},
        {"ks": (0,)},
        {"ks": ()},
        {"ks": (True,)},
        {"ks": (2.5,)},
        {"ks": ("3",)},
        {"temperature": NAN},
        {"temperature": 0.0},
        {"temperature": INF},
        {"leave_one_out": True},
    ],
    ids=lambda change: ", ".join(change),
)
def test_knn_of_nothing_and_of_wrong_values_is_refused(change: dict[str, Any]) -> None:
    arguments = {"train_features": FEATURES, "train_labels": LABELS, "test_features": FEATURES[:2], "ks": (3,)}
    with pytest.raises(ValueError, match=r"\w"):
        knn_predict(**{**arguments, **change})


def test_leaving_one_image_out_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and 0"):
        knn_predict(FEATURES[:1], LABELS[:1], ks=(1,), leave_one_out=True)


@pytest.mark.parametrize(
    "change",
    [
        {"train": (FEATURES[:0], LABELS[:0])},
        {"val": (FEATURES[:0], LABELS[:0])},
        {"test": (FEATURES[:0], LABELS[:0])},
        {"train": (np.where(FEATURES > 1, NAN, FEATURES), LABELS)},
        {"test": (np.where(FEATURES > 1, INF, FEATURES), LABELS)},
        {"train": (FEATURES, np.zeros(8, int))},
        {"train": (FEATURES, LABELS), "num_classes": 3},
        {"train": (FEATURES, LABELS), "num_classes": 1},
        {"val": (FEATURES, LABELS + 7)},
        {"test": (FEATURES, LABELS - 1)},
        {"test": (FEATURES[:, :2], LABELS)},
        {"metric": "mean_per_class", "test": (FEATURES[::2], LABELS[::2])},
        {"metric": "map11"},
        {"metric": "top5"},
        {"recipe": "none"},
        {"dtype": "float16"},
    ],
    ids=lambda change: ", ".join(change),
)
def test_logistic_regression_of_nothing_and_of_wrong_values_is_refused(change: dict[str, Any]) -> None:
    arguments: dict[str, Any] = dict.fromkeys(("train", "val", "test"), (FEATURES, LABELS))
    with pytest.raises(ValueError, match=r"\w"):
        logistic_regression(**{**arguments, "num_classes": 2, **change})


@pytest.mark.parametrize(
    "call",
    [
        lambda: top1([], []),
        lambda: top1(np.zeros(0, int), np.zeros(0, int)),
        lambda: top1(np.array([0.5]), np.array([0])),
        lambda: mean_per_class(np.array([0]), np.array([0]), 2),
        lambda: mean_per_class(np.array([0]), np.array([5]), 2, skip_absent=True),
        lambda: map11(np.zeros((0, 2)), np.zeros((0, 2))),
        lambda: map11(np.zeros((3, 2)), np.zeros((3, 2)), skip_absent=True),
        lambda: map11(np.full((3, 2), NAN), np.ones((3, 2))),
        lambda: map11(np.zeros((3, 2)), np.full((3, 2), -1)),
    ],
)
def test_scores_of_nothing_are_refused(call: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        call()


PATCHES = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("queries", "keys"),
    [
        (PATCHES[:1], PATCHES[:1]),
        (PATCHES[:0], PATCHES[:0]),
        (PATCHES, PATCHES[:1]),
        (PATCHES[:, :0], PATCHES),
        (PATCHES * NAN, PATCHES),
        (PATCHES, PATCHES * INF),
    ],
    ids=["one", "none", "another number", "no patches", "NaN", "infinite"],
)
def test_retrieval_among_less_than_two_photographs_is_refused(queries: torch.Tensor, keys: torch.Tensor) -> None:
    with pytest.raises(DataError, match=r"photographs|views are NaN"):
        nearest_patch_share(queries, keys)


@pytest.mark.parametrize("count", [0, 1])
def test_retrieval_needs_two_photographs(count: int) -> None:
    images = torch.rand(count, 3, 8, 8)
    with pytest.raises(DataError, match="at least two RGB photographs"):
        patch_retrieval(lambda views: Features(views.flatten(1), views.flatten(2), (8, 8)), images, size=8)
