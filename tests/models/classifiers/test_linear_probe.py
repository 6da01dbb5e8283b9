from collections.abc import Callable
from copy import deepcopy
from math import cos, pi
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from data_samples import data_samples
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.optim.scheduler import CosineAnnealingLR
from safetensors.torch import save_file
from torch import Tensor

from proteus.checkpoints import CheckpointError
from proteus.models import LinearProbe
from proteus.models.classifiers import LEARNING_RATES
from proteus.structures import DataError

MakeProbe = Callable[..., LinearProbe]
RESNET = {"type": "TimmBackbone", "arch": "resnet10t", "img_size": 32}


def optimizer_of(probe: LinearProbe) -> OptimWrapper:
    sgd = {"type": "SGD", "momentum": 0.9, "weight_decay": 0.0}
    wrapper = {"type": "OptimWrapper", "optimizer": sgd, "constructor": "proteus.ProbeConstructor"}
    return build_optim_wrapper(probe, wrapper)


def inputs_by_timm(probe: LinearProbe, images: Tensor) -> dict[tuple[int, bool], Tensor]:
    """What each head should read, from timm's own intermediate features."""
    model = timm.create_model(**probe.backbone.timm_args, num_classes=0).eval()
    model.load_state_dict(probe.backbone.timm_state())
    with torch.no_grad():
        levels = model.forward_intermediates(
            images, indices=4, norm=True, return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
        )
    cls = [prefix[:, 0] for _, prefix in levels]
    patches = levels[-1][0].mean(1)
    return {
        (1, False): cls[-1],
        (1, True): torch.cat([cls[-1], patches], 1),
        (4, False): torch.cat(cls, 1),
        (4, True): torch.cat([*cls, patches], 1),
    }


def test_all_heads_are_what_each_would_be_if_it_were_trained_alone(make_probe: MakeProbe) -> None:
    """52 heads against 52 runs of torch's SGD, on other features' code, with the cosine written out."""
    probe, steps = make_probe(), 6
    generator = torch.Generator().manual_seed(2)
    batches = [
        (torch.randn(8, 3, 28, 28, generator=generator), torch.randint(0, 5, (8,), generator=generator))
        for _ in range(steps)
    ]
    first = deepcopy(probe.state_dict())

    wrapper = optimizer_of(probe)
    schedule = CosineAnnealingLR(wrapper, T_max=steps, eta_min=0.0, by_epoch=False)
    probe.train()
    for images, labels in batches:
        wrapper.update_params(probe(inputs=images, labels=labels, mode="loss")["loss_heads"])
        schedule.step()

    inputs = [inputs_by_timm(probe, images) for images, _ in batches]
    assert len(probe.heads_of_grid) == 52
    for head in probe.heads_of_grid:
        index = LEARNING_RATES.index(head.lr)
        keys = [f"heads.{head.input_name}.{kind}.{index}" for kind in ("weights", "biases")]
        alone = [first[key].clone().requires_grad_() for key in keys]
        sgd = torch.optim.SGD(alone, lr=head.lr, momentum=0.9)
        for step, (features, (_, labels)) in enumerate(zip(inputs, batches, strict=True)):
            sgd.param_groups[0]["lr"] = head.lr * (1 + cos(pi * step / steps)) / 2
            sgd.zero_grad()
            F.cross_entropy(features[head.layers, head.avgpool] @ alone[0].T + alone[1], labels).backward()
            sgd.step()
        for key, value in zip(keys, alone, strict=True):
            torch.testing.assert_close(probe.state_dict()[key], value.detach(), rtol=0, atol=1e-5, msg=head.name)
    moved = probe.state_dict()["heads.blocks4.weights.12"] - first["heads.blocks4.weights.12"]
    assert moved.abs().max() > 0.05


@pytest.mark.parametrize("backbone", [{"drop_path_rate": 0.5}, RESNET], ids=["drop path", "batch norm"])
def test_the_backbone_stays_as_it_is(make_probe: MakeProbe, backbone: dict, batch: dict) -> None:
    probe = cnn_probe() if "arch" in backbone else make_probe(backbone)
    images = F.interpolate(batch["inputs"], 32) if "arch" in backbone else batch["inputs"]
    before, heads = deepcopy(probe.backbone.state_dict()), deepcopy(probe.heads.state_dict())
    wrapper = optimizer_of(probe)
    features = probe.train().tokens(images)
    assert not any(module.training for module in probe.backbone.modules())
    for _ in range(3):
        wrapper.update_params(probe(inputs=images, labels=batch["labels"], mode="loss")["loss_heads"])
    after = probe.backbone.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(probe.tokens(images), features)
    assert not any(parameter.requires_grad for parameter in probe.backbone.parameters())
    assert all((probe.heads.state_dict()[name] != value).any() for name, value in heads.items())


def cnn_probe(**options: Any) -> LinearProbe:
    torch.manual_seed(0)
    return LinearProbe(RESNET, num_classes=5, **{"layers": (1,), **options})


def test_a_cnn_gives_its_pooled_map(batch: dict) -> None:
    probe = cnn_probe()
    images = F.interpolate(batch["inputs"], 32)
    features = probe.backbone(images)
    torch.testing.assert_close(probe.tokens(images)[:, 0], features.cls)
    torch.testing.assert_close(probe.tokens(images)[:, 1], features.patches.mean(1))
    assert len(probe.heads_of_grid) == 26
    with pytest.raises(ValueError, match=r"last 4 blocks.*TimmBackbone.*model\.layers=\(1,\)"):
        cnn_probe(layers=(1, 4))


def test_losses_are_summed_over_heads_and_averaged_over_images(make_probe: MakeProbe, batch: dict) -> None:
    probe = make_probe(learning_rates=(0.1, 0.01))
    inputs = inputs_by_timm(probe, batch["inputs"])
    expected = torch.stack(
        [
            F.cross_entropy(inputs[head.layers, head.avgpool] @ bank.weights[i].T, batch["labels"])
            for head, bank, i in (
                (head, probe.heads[head.input_name], (0.1, 0.01).index(head.lr)) for head in probe.heads_of_grid
            )
        ]
    )
    losses = probe(**batch, mode="loss")
    torch.testing.assert_close(losses["loss_heads"], expected.sum())
    torch.testing.assert_close(losses["cross_entropy_min"], expected.min())
    torch.testing.assert_close(losses["cross_entropy_mean"], expected.mean())


def test_tokens_in_place_of_images(make_probe: MakeProbe, batch: dict) -> None:
    probe = make_probe()
    tokens = probe.tokens(batch["inputs"])
    assert tokens.shape == (12, probe.token_count, 24) == (12, 5, 24)
    by_tokens = probe(tokens=tokens, labels=batch["labels"], mode="loss")
    torch.testing.assert_close(by_tokens, probe(**batch, mode="loss"), rtol=0, atol=0)
    half = probe(tokens=tokens.half(), labels=batch["labels"], mode="loss")["loss_heads"]
    torch.testing.assert_close(half, by_tokens["loss_heads"], rtol=1e-3, atol=0)
    assert make_probe(avgpool=(False,)).tokens(batch["inputs"]).shape == (12, 4, 24)


def test_predictions_of_every_head_and_logits_of_the_best(make_probe: MakeProbe, batch: dict) -> None:
    probe = make_probe()
    for parameter in probe.heads.parameters():
        torch.nn.init.normal_(parameter)
    inputs = inputs_by_timm(probe, batch["inputs"])
    logits = torch.stack(
        [
            inputs[head.layers, head.avgpool] @ bank.weights[i].T + bank.biases[i]
            for head, bank, i in (
                (head, probe.heads[head.input_name], LEARNING_RATES.index(head.lr)) for head in probe.heads_of_grid
            )
        ],
        dim=1,
    )
    metas = [{"label": int(label), "img_path": str(i)} for i, label in enumerate(batch["labels"])]
    for best in (-1, 0, 30, 51):
        probe.best_head.fill_(best)
        samples = probe(inputs=batch["inputs"], data_samples=data_samples(*metas), mode="predict")
        for row, sample in enumerate(samples):
            assert (sample["label"], sample["img_path"]) == (metas[row]["label"], str(row))
            assert torch.equal(sample["head_labels"], logits[row].argmax(-1))
            torch.testing.assert_close(sample["logits"], logits[row, max(best, 0)], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(probe(batch["inputs"]), logits[:, max(best, 0)], rtol=1e-4, atol=1e-5)
    assert logits[:, 0].argmax(-1).ne(logits[:, 51].argmax(-1)).any()


def test_autocast_is_the_backbones_alone(make_probe: MakeProbe, batch: dict) -> None:
    probe = make_probe(dtype="bfloat16")
    full, low = make_probe(dtype="float32").tokens(batch["inputs"]), probe.tokens(batch["inputs"])
    assert low.dtype == torch.float32
    assert 1e-4 < (full - low).abs().max() < 0.2
    expected = probe.losses(low, batch["labels"])
    with torch.autocast("cpu", torch.bfloat16):  # as with tools/train.py --amp
        torch.testing.assert_close(probe(**batch, mode="loss"), expected, rtol=0, atol=0)
        assert torch.equal(make_probe(dtype="float32").tokens(batch["inputs"]), full)
        assert torch.equal(make_probe(dtype="auto").tokens(batch["inputs"]), low)
    assert torch.equal(make_probe(dtype="auto").tokens(batch["inputs"]), full)


def test_a_checkpoint_is_a_whole_classifier(make_probe: MakeProbe, batch: dict) -> None:
    probe = make_probe()
    probe.best_head.fill_(20)
    for parameter in probe.heads.parameters():
        torch.nn.init.normal_(parameter)
    other = make_probe({"embed_dim": 24})
    torch.nn.init.normal_(other.backbone.vit.cls_token)
    assert int(other.best_head) == -1
    other.load_state_dict(probe.state_dict())
    assert torch.equal(other(batch["inputs"]), probe(batch["inputs"]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layers": (1, 6)}, r"model\.layers=\(1, 6\): model\.backbone has 5 blocks"),
        ({"layers": (0, 1)}, r"model\.layers=\(0, 1\)"),
        ({"layers": ()}, r"model\.layers=\(\)"),
        ({"avgpool": (True, True)}, r"model\.avgpool.*each once"),
        ({"learning_rates": (0.1, -0.1)}, r"model\.learning_rates.*positive"),
        ({"num_classes": 0}, r"model\.num_classes=0"),
        ({"dtype": "half"}, r"model\.dtype='half'.*'float16'"),
    ],
)
def test_arguments_that_make_no_sense(make_probe: MakeProbe, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_probe(**options)


def test_data_that_does_not_fit(make_probe: MakeProbe, batch: dict) -> None:
    probe = make_probe()
    metas = [{"label": 0, "img_path": "a.jpg"}, {"label": 5, "img_path": "cats/b.jpg"}]
    for mode in ("loss", "predict"):
        with pytest.raises(DataError, match=r"cats/b\.jpg has label 5, but model\.num_classes=5"):
            probe(inputs=batch["inputs"][:2], labels=batch["labels"][:2], data_samples=data_samples(*metas), mode=mode)
    with pytest.raises(DataError, match=r"\(5, 32\) tokens x width.*make \(5, 24\)"):
        probe(tokens=torch.zeros(2, 5, 32), labels=batch["labels"][:2], mode="loss")
    with pytest.raises(DataError, match=r"no labels.*LabelledFolder"):
        probe(inputs=batch["inputs"], mode="loss")


def test_weights_of_another_width(make_probe: MakeProbe, tmp_path: Path) -> None:
    save_file(make_probe({"embed_dim": 48}).backbone.timm_state(), tmp_path / "wide.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.backbone\.checkpoint: .*wide\.safetensors(.|\n)*width 48"):
        make_probe({"checkpoint": str(tmp_path / "wide.safetensors")})
