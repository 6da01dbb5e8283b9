import pytest
import torch
from torch import nn

from proteus.models import TimmBackbone, ViT
from proteus.models.backbones.features import features_of_map, grid_of_tokens, probe, shapes_of
from proteus.structures import Features


def test_a_map_keeps_its_rows() -> None:
    feature_map = torch.arange(24.0).view(1, 2, 3, 4)
    features = features_of_map(feature_map)
    assert features.grid == (3, 4)
    assert features.patches[0, 5].tolist() == [5.0, 17.0]  # second row, second column
    assert features.cls.tolist() == [[5.5, 17.5]]
    assert torch.equal(features.maps, feature_map)


@pytest.mark.parametrize(
    ("size", "count", "grid"), [((56, 56), 16, (4, 4)), ((28, 84), 12, (2, 6)), ((84, 28), 3, (3, 1))]
)
def test_tokens_cover_the_image(size: tuple[int, int], count: int, grid: tuple[int, int]) -> None:
    assert grid_of_tokens(count, torch.empty(1, 3, *size)) == grid


def test_tokens_without_a_grid_raise() -> None:
    with pytest.raises(ValueError, match="17 patch tokens do not form a grid over images of 56x56 px"):
        grid_of_tokens(17, torch.empty(1, 3, 56, 56))


def test_probing_gives_shapes_and_leaves_the_backbone_as_it_was() -> None:
    vit = ViT("tiny", img_size=56, embed_dim=24, depth=1, num_heads=3)
    vit.vit.norm.eval()
    features = probe(vit, 84)
    assert features.patches.is_meta
    assert features.patches.shape == (1, 36, 24)
    assert features.grid == (6, 6)
    assert vit.training
    assert not vit.vit.norm.training
    assert not any(parameter.is_meta for parameter in vit.parameters())


def test_probing_draws_no_statistics() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, images: torch.Tensor) -> Features:
            return features_of_map(self.norm(images))

    net = Net()
    probe(net, 8)
    assert net.norm.num_batches_tracked == 0


def test_shapes_are_probed_once_for_each_config_class_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    probed: list[int] = []

    def counted(backbone: nn.Module, img_size: int) -> Features:
        probed.append(img_size)
        return probe(backbone, img_size)

    class Mean(TimmBackbone):
        def forward(self, images: torch.Tensor) -> Features:
            return features_of_map(super().forward(images).maps.mean(dim=1, keepdim=True))

    monkeypatch.setattr("proteus.models.backbones.features.probe", counted)
    monkeypatch.setattr("proteus.models.backbones.features._SHAPES", {})
    first, again, other = (TimmBackbone("resnet10t", img_size=size) for size in (64, 64, 96))
    assert [first.embed_dim, first.grid, again.embed_dim, again.grid] == [512, (2, 2)] * 2
    assert other.grid == first.grid_for(96) == (3, 3)
    assert probed == [64, 96]
    assert Mean("resnet10t", img_size=64).embed_dim == 1
    function = {"act_layer": nn.ReLU}  # no key: two of them may have one name
    for _ in range(2):
        shapes_of(first, function, 32)
    assert probed == [64, 96, 64, 32, 32]
