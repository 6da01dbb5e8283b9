import pytest
import torch
from mmengine.registry import DefaultScope

from proteus.models import TimmBackbone, TokenPooling, ViT
from proteus.structures import Features


def test_each_pool_gives_one_vector_an_image() -> None:
    features = Features(torch.tensor([[1.0, 2.0]]), torch.tensor([[[3.0, 0.0], [5.0, 8.0]]]), (1, 2))
    wanted = {"cls": [[1.0, 2.0]], "avg": [[4.0, 4.0]], "cls+avg": [[1.0, 2.0, 4.0, 4.0]]}
    for pool, values in wanted.items():
        (pooled,) = TokenPooling(pool)(features)
        assert pooled.tolist() == values


@pytest.mark.parametrize(
    "backbone",
    [ViT("tiny", img_size=28, embed_dim=24, depth=1, num_heads=2), TimmBackbone("test_convnext", img_size=64)],
)
def test_it_takes_any_backbone_of_ours(backbone: torch.nn.Module) -> None:
    (pooled,) = TokenPooling()(backbone(torch.zeros(2, 3, backbone.img_size, backbone.img_size)))
    assert pooled.shape == (2, backbone.embed_dim)


def test_mmpretrains_heads_take_what_it_gives() -> None:
    pytest.importorskip("mmpretrain")
    from mmpretrain.models import LinearClsHead, VisionTransformerClsHead

    feats = (torch.randn(2, 24),)
    # In another scope its loss would be ours of the same name.
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        heads = LinearClsHead(5, 24), VisionTransformerClsHead(5, 24)
    for head in heads:
        assert head(feats).shape == (2, 5)


def test_what_it_does_not_take() -> None:
    with pytest.raises(ValueError, match=r"neck\.pool='max': write one of 'cls', 'avg', 'cls\+avg'"):
        TokenPooling("max")
    with pytest.raises(TypeError, match=r"not tuple: write model\.backbone\.type='ViT'"):
        TokenPooling()((torch.zeros(1, 4),))
