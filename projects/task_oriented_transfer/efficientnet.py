"""Load EfficientNet weights with the names of the PyTorch port that most packages ship."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from proteus.checkpoints.keys import register_key_converter

_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
# Blocks that begin with an expansion have three convolutions, the others two, and timm numbers them in order.
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
}
_PLAIN = {**_EXPANDING, "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


@register_key_converter
def to_timm_efficientnet(own: Iterable[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename an EfficientNet's weights to timm's names; other weights pass unchanged.

    The port numbers blocks through the whole network, timm within each stage. The matching models are timm's
    ``tf_efficientnet_*``, which pad as the port does.

    Args:
        own: Names of timm's model, for the number of blocks in each stage.
        state: Weights of the file.

    Returns:
        The renamed weights.
    """
    if "_conv_stem.weight" not in state:
        return dict(state)
    found = {match[0] for key in own if (match := re.match(r"blocks\.\d+\.\d+\.", key))}
    blocks = sorted(found, key=lambda name: tuple(map(int, name.split(".")[1:3])))
    renamed = {}
    for key, value in state.items():
        match = re.fullmatch(r"_blocks\.(\d+)\.(_[a-z0-9_]+)\.(\w+)", key)
        if match is None:
            layer, _, rest = key.partition(".")
            renamed[f"{_OUTSIDE.get(layer, layer)}.{rest}"] = value
        elif int(match[1]) < len(blocks):
            table = _EXPANDING if f"_blocks.{match[1]}._expand_conv.weight" in state else _PLAIN
            renamed[f"{blocks[int(match[1])]}{table.get(match[2], match[2])}.{match[3]}"] = value
        else:
            renamed[key] = value
    return renamed
