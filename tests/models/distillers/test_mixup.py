import pytest
import torch

from proteus.models import Distiller, MixupDataPreprocessor
from proteus.models.distillers.mixup import random_box


def mixer(**options: float) -> MixupDataPreprocessor:
    return MixupDataPreprocessor(num_classes=3, mean=(0.0,) * 3, std=(1.0,) * 3, **options)


def batch() -> dict[str, torch.Tensor]:
    """Two images, all 1 and all 3, of classes 0 and 2."""
    return {
        "inputs": torch.stack([torch.full((3, 32, 32), 1.0), torch.full((3, 32, 32), 3.0)]),
        "labels": torch.tensor([0, 2]),
    }


@pytest.mark.parametrize(
    "options",
    [
        {"mixup": 0.8, "cutmix": 0.0},
        {"mixup": 0.0, "cutmix": 1.0},
        {},
        {"mixup": 1, "cutmix": 0},
        {"mixup": 0, "cutmix": 1},
    ],
)
def test_images_and_labels_have_the_same_shares(options: dict[str, float]) -> None:
    shares = set()
    for seed in range(20):
        torch.manual_seed(seed)
        mixed = mixer(**options)(batch(), training=True)
        first, labels = mixed["inputs"][0], mixed["labels"]
        # The mean of the first image shows the fractions of 1 and 3 in it.
        share = (3 - first.mean().item()) / 2
        torch.testing.assert_close(labels, torch.tensor([[share, 0, 1 - share], [1 - share, 0, share]]))
        assert set(first.unique().tolist()) <= {1.0, 3.0} or first.unique().numel() == 1
        shares.add(round(share, 3))
    assert len(shares) > 10


def test_draws_follow_torchs_seed() -> None:
    images = []
    for _ in range(2):
        torch.manual_seed(5)
        images.append(mixer()(batch(), training=True)["inputs"])
    assert torch.equal(*images)


def test_nothing_is_mixed_in_validation() -> None:
    data = mixer()(batch(), training=False)
    assert torch.equal(data["inputs"], batch()["inputs"])
    assert data["labels"].tolist() == [0, 2]


def test_boxes_lie_within_the_image() -> None:
    torch.manual_seed(0)
    for _ in range(100):
        top, bottom, left, right = random_box(20, 40, 0.5)
        assert 0 <= top <= bottom <= 20
        assert 0 <= left <= right <= 40
        assert bottom - top <= 14  # 20 x sqrt(0.5)


def test_what_it_needs() -> None:
    with pytest.raises(ValueError, match="LabelledFolder"):
        mixer()({"inputs": torch.zeros(2, 3, 8, 8)}, training=True)
    with pytest.raises(ValueError, match="both 0"):
        mixer(mixup=0.0, cutmix=0.0)


def test_images_without_labels_are_mixed_as_those_with_labels() -> None:
    plain = MixupDataPreprocessor(num_classes=None, mean=(0.0,) * 3, std=(1.0,) * 3)
    for seed in range(4):
        mixed = []
        for each, data in ((mixer(), batch()), (plain, {"inputs": batch()["inputs"]}), (plain, batch())):
            torch.manual_seed(seed)
            mixed.append(each(data, training=True))
        assert torch.equal(mixed[0]["inputs"], mixed[1]["inputs"])
        assert torch.equal(mixed[0]["inputs"], mixed[2]["inputs"])
        assert "labels" not in {**mixed[1], **mixed[2]}  # those of one image would not be those of the mixture


def test_a_parameter_of_1_draws_uniform_shares() -> None:
    plain = MixupDataPreprocessor(mixup=1.0, cutmix=0.0, num_classes=None)
    torch.manual_seed(0)
    shares = torch.tensor([plain.mix(torch.zeros(2, 3, 1, 1))[1] for _ in range(2000)])
    assert torch.histc(shares, 4, 0, 1).div(500).sub(1).abs().max() < 0.15


def test_teacher_and_student_see_the_same_mixture() -> None:
    vit = dict(type="ViT", arch="tiny", img_size=28, depth=1, embed_dim=24, num_heads=3)
    seen = []
    model = Distiller(
        dict(type="Teacher", backbone=vit),
        dict(vit),
        dict(token=dict(type="TokenObjective")),
        dict(type="MixupDataPreprocessor", mixup=1.0, cutmix=0.0, num_classes=None),
    )
    for network in (model.teacher.backbone, model.student):
        network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    data = {"inputs": torch.rand(4, 3, 28, 28)}
    model(**model.data_preprocessor(data, True), mode="loss")
    unmixed = model.data_preprocessor(data, False)["inputs"]
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(seen[0], unmixed)
    torch.testing.assert_close(seen[0] + seen[0].flip(0), unmixed + unmixed.flip(0))


def test_cached_tokens_of_unmixed_images_are_refused() -> None:
    data = batch() | {"teacher_cls": torch.zeros(2, 4), "teacher_patches": torch.zeros(2, 1, 4)}
    with pytest.raises(ValueError, match=r"cached tokens of unmixed images: .*dataset\.cache=None"):
        mixer()(data, training=True)
    assert torch.equal(mixer()(data, training=False)["inputs"], batch()["inputs"])
