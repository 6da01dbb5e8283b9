"""Position embeddings of a checkpoint that was trained on images of another size."""

from __future__ import annotations

from torch import Tensor, nn

from proteus.models.backbones.timm_backbone import TimmBackbone
from proteus.models.backbones.vit import ViT


def fit_positions(model: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Resample the position embeddings of a checkpoint that are those of its ViTs at another ``img_size``.

    Args:
        model: The model with the ViTs, ours or timm's.
        state: State dict of the whole model, changed in place.

    Returns:
        One line for each ViT that was changed.
    """
    changes = []
    for name, module in model.named_modules():
        if not isinstance(module, (ViT, TimmBackbone)):
            continue
        key = f"{name}.{'vit' if isinstance(module, ViT) else 'model'}.pos_embed".lstrip(".")
        if not isinstance(state.get(key), Tensor):
            continue
        fitted = module.fit_positions({"pos_embed": state[key]})["pos_embed"]
        if fitted.shape != state[key].shape:
            changes.append(f"resampled {key} from {state[key].shape[1]} to {fitted.shape[1]} positions")
            state[key] = fitted
    return changes
