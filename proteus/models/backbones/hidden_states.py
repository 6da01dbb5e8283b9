"""Which backbones have hidden states: the residual stream after each of their blocks."""

from __future__ import annotations

import inspect
from typing import Any


def no_hidden_states(backbone: Any) -> str:
    """Say why a backbone has no hidden states, and what to do about it; empty if it has them.

    Args:
        backbone: Any module that returns ``Features``. One with ``encode_with_hidden_states`` has hidden states, unless
            its attribute ``no_hidden_states`` says otherwise.
    """
    if not hasattr(backbone, "encode_with_hidden_states"):
        return f"{type(backbone).__name__} has none: take a type='ViT'"
    reason: str = getattr(backbone, "no_hidden_states", "")
    return reason


def keeps_one_sequence(model: Any) -> bool:
    """Whether all blocks of a timm model pass on one sequence of tokens, with a cls token in front.

    CNNs and hierarchical models change the grid or the width from stage to stage. SigLIP has no cls token, and CaiT and
    XCiT append theirs after these blocks: their ``forward_intermediates`` gives no prefix tokens.
    """
    if not hasattr(model, "forward_intermediates") or getattr(model, "cls_token", None) is None:
        return False
    if "return_prefix_tokens" not in inspect.signature(model.forward_intermediates).parameters:
        return False
    levels = {(level["num_chs"], level["reduction"]) for level in model.feature_info}
    # Features of another width are those of a layer after the blocks.
    last = (model.num_features, getattr(model, "head_hidden_size", model.num_features))
    widths = {*last, *(width for width, _ in levels)}
    return len(levels) == len(widths) == 1 and len(getattr(model, "blocks", ())) == len(model.feature_info)
