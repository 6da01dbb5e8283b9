"""Our batches as mmpretrain's classifier takes them, against mmpretrain's own and timm's label smoothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from data_samples import data_samples
from mmengine.registry import init_default_scope
from torch import Tensor

from proteus.models import MixupDataPreprocessor, MMPretrainDataPreprocessor
from proteus.registry import MODELS

pytest.importorskip("mmpretrain")


def batch() -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "inputs": torch.rand(4, 3, 28, 28),
        "labels": torch.tensor([0, 2, 1, 2]),
        "data_samples": data_samples({}) * 4,
    }


def test_mixed_batches_are_those_of_mixup() -> None:
    torch.manual_seed(5)
    data = MMPretrainDataPreprocessor(3, mixup=0.8, cutmix=1.0)(batch(), training=True)
    torch.manual_seed(5)
    wanted = MixupDataPreprocessor(0.8, 1.0, 3)(batch(), training=True)
    # batch() seeds as well, so the draws after it are the same.
    assert torch.equal(data["inputs"], wanted["inputs"])
    assert torch.equal(torch.stack([sample.gt_score for sample in data["data_samples"]]), wanted["labels"])
    assert all("gt_label" not in sample for sample in data["data_samples"])


@pytest.mark.parametrize("mixing", [{"mixup": 0.8}, {}])
def test_validation_is_not_mixed(mixing: dict[str, float]) -> None:
    data = MMPretrainDataPreprocessor(3, **mixing)(batch())
    assert [sample.gt_label.tolist() for sample in data["data_samples"]] == [[0], [2], [1], [2]]
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    torch.testing.assert_close(data["inputs"], (batch()["inputs"] - mean) / std)


def classifier(**mixing: float) -> Any:
    init_default_scope("proteus")
    torch.manual_seed(1)
    return MODELS.build(
        {
            "type": "mmpretrain.ImageClassifier",
            "data_preprocessor": {"type": "MMPretrainDataPreprocessor", "num_classes": 3, **mixing},
            "backbone": {"type": "ViT", "arch": "tiny", "img_size": 28, "embed_dim": 24, "depth": 1, "num_heads": 2},
            "neck": {"type": "TokenPooling"},
            "head": {
                "type": "mmpretrain.LinearClsHead",
                "num_classes": 3,
                "in_channels": 24,
                "loss": {"type": "mmpretrain.LabelSmoothLoss", "label_smooth_val": 0.1, "num_classes": 3},
            },
        }
    )


def smoothed(logits: Tensor, shares: Tensor) -> Tensor:
    return -((0.9 * shares + 0.1 / 3) * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


@pytest.mark.parametrize("mixing", [{"mixup": 0.8, "cutmix": 1.0}, {}])
def test_the_loss_is_the_smoothed_cross_entropy(mixing: dict[str, float]) -> None:
    model = classifier(**mixing)
    data = model.data_preprocessor(batch(), training=True)
    logits = model(**data)
    found = model(**data, mode="loss")["loss"]
    if mixing:
        shares = torch.stack([sample.gt_score for sample in data["data_samples"]])
        assert ((shares > 0) & (shares < 1)).any()
        torch.testing.assert_close(found, smoothed(logits, shares))
    else:
        torch.testing.assert_close(found, F.cross_entropy(logits, batch()["labels"], label_smoothing=0.1))
    found.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_scores_are_those_of_the_cls_token() -> None:
    model = classifier().eval()
    data = model.data_preprocessor(batch())
    wanted = F.softmax(model.head.fc(model.backbone(data["inputs"]).cls), dim=1)
    samples = model(**data, mode="predict")
    torch.testing.assert_close(torch.stack([sample.pred_score for sample in samples]), wanted)
    assert [sample.gt_label.item() for sample in samples] == [0, 2, 1, 2]


def test_images_without_labels_are_refused() -> None:
    data = batch()
    del data["labels"]
    with pytest.raises(ValueError, match="needs labels: use dataset type='LabelledFolder'"):
        MMPretrainDataPreprocessor(3)(data)


def test_mmpretrains_mixing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"train_cfg\.augments.*data_preprocessor\.mixup"):
        MMPretrainDataPreprocessor(3, batch_augments={"augments": []})
