import pytest
from mmengine.config import ConfigDict
from torch import nn

from proteus.engine import ProbeConstructor
from proteus.models import LinearProbe

BACKBONE = {"type": "ViT", "arch": "tiny", "img_size": 28, "embed_dim": 24, "depth": 4, "num_heads": 3}
WRAPPER = ConfigDict(type="OptimWrapper", optimizer={"type": "SGD", "momentum": 0.9})


def test_a_group_for_each_learning_rate() -> None:
    probe = LinearProbe(BACKBONE, num_classes=3, learning_rates=(0.1, 0.001))
    groups = ProbeConstructor(WRAPPER)(probe).optimizer.param_groups
    assert [group["lr"] for group in groups] == [0.1, 0.001]
    names = {id(parameter): name for name, parameter in probe.named_parameters()}
    for index, group in enumerate(groups):
        assert {names[id(parameter)] for parameter in group["params"]} == {
            f"heads.{inputs}.{kind}.{index}"
            for inputs in ("blocks1", "blocks1_avgpool", "blocks4", "blocks4_avgpool")
            for kind in ("weights", "biases")
        }
        assert (group["momentum"], group["weight_decay"]) == (0.9, 0)


def test_what_it_refuses() -> None:
    with_rate = ConfigDict(type="OptimWrapper", optimizer={"type": "SGD", "lr": 0.1})
    with pytest.raises(ValueError, match=r"optimizer\.lr.*model\.learning_rates"):
        ProbeConstructor(with_rate)
    with pytest.raises(ValueError, match=r"paramwise_cfg.*remove"):
        ProbeConstructor(WRAPPER, {"bias_lr_mult": 2.0})
    with pytest.raises(ValueError, match="type='LinearProbe', not Linear"):
        ProbeConstructor(WRAPPER)(nn.Linear(2, 2))
