import torch

from proteus.models import DistillHead


def test_a_head_is_layernorm_and_a_linear_layer() -> None:
    head = DistillHead(in_dim=4, out_dim=3)
    # eps 1e-5, bias, torch's initial values, uniform within 1 / sqrt(in_dim) (docs/reproduction.md#projection-heads).
    assert head[0].eps == 1e-5
    assert {key: tuple(value.shape) for key, value in head.state_dict().items()} == {
        "0.weight": (4,),
        "0.bias": (4,),
        "1.weight": (3, 4),
        "1.bias": (3,),
    }
    wide = DistillHead(in_dim=400, out_dim=300)[1].weight
    assert 0.049 < wide.abs().max().item() <= 0.05
    tokens = torch.randn(2, 5, 4)
    centred = tokens - tokens.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(head(tokens), normed @ head[1].weight.T + head[1].bias)
