import pytest
import torch
from torch import nn

from proteus.models import DistillHead


@pytest.mark.parametrize("layers", [("linear", "gelu"), ("gelu", "linear"), ("linear",), ("norm", "gelu", "linear")])
def test_layers_come_in_the_order_given(layers: tuple[str, ...]) -> None:
    head = DistillHead(in_dim=4, out_dim=3, layers=list(layers))
    (linear,) = (module for module in head if isinstance(module, nn.Linear))
    tokens = torch.randn(2, 5, 4)
    expected = tokens
    for layer in layers:
        if layer == "norm":
            expected = nn.functional.layer_norm(expected, (4,))
        elif layer == "gelu":
            expected = nn.functional.gelu(expected)
        else:
            expected = expected @ linear.weight.T + linear.bias
    torch.testing.assert_close(head(tokens), expected)


@pytest.mark.parametrize("layers", ["linear", (), ("norm",), ("linear", "linear"), ("linear", "relu")])
def test_other_layers_are_refused(layers: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="a list of norm, linear, gelu, with 'linear' once"):
        DistillHead(in_dim=4, out_dim=3, layers=layers)
