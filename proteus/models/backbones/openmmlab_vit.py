"""Arguments and methods that OpenMMLab's configs and trainers expect of a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from proteus.utils.argument_checks import check_whole


def openmmlab_checkpoint(
    checkpoint: str | Path | None, pretrained: Any = None, init_cfg: Mapping[str, Any] | None = None
) -> str | Path | None:
    """Find the weight file among ``checkpoint``, ``pretrained`` and ``init_cfg``.

    Args:
        checkpoint: Our own argument.
        pretrained: A file; None and False name none.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)``; its ``prefix`` and ``map_location`` are not needed, since
            weights are found under any prefix.

    Returns:
        The file, or None.

    Raises:
        ValueError: Two of them name a file, or one asks for what is never done: a download, another initialisation.
    """
    if pretrained is True:
        raise ValueError("pretrained=True: nothing is downloaded; write checkpoint=FILE")
    if pretrained not in (None, False) and not isinstance(pretrained, (str, Path)):
        raise ValueError(f"pretrained={pretrained!r}: write checkpoint=FILE")
    named = {"checkpoint": checkpoint, "pretrained": pretrained or None}
    if init_cfg is not None:
        kind = init_cfg.get("type") if isinstance(init_cfg, Mapping) else None
        if kind != "Pretrained" or not init_cfg.get("checkpoint"):
            raise ValueError(
                f"init_cfg={init_cfg!r}: the backbone initialises itself; write checkpoint=FILE, or "
                "init_cfg=dict(type='Pretrained', checkpoint=FILE)"
            )
        unknown = set(init_cfg) - {"type", "checkpoint", "prefix", "map_location"}
        if unknown:
            raise ValueError(f"init_cfg has the unknown key {sorted(unknown)[0]!r}: it takes type and checkpoint")
        named["init_cfg"] = init_cfg["checkpoint"]
    given = {name: file for name, file in named.items() if file is not None}
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} name a file each: write checkpoint alone")
    return next(iter(given.values()), None)


class OpenMMLabViT(nn.Module):
    """A vision transformer that freezes its first blocks and names its layers as mmpretrain's does.

    Attributes:
        frozen_stages: See :meth:`freeze_stages`.
    """

    vit: Any
    frozen_stages = -1

    @property
    def depth(self) -> int:
        """Number of transformer blocks."""
        return len(self.vit.blocks)

    def freeze_stages(self, count: int) -> None:
        """Freeze the embeddings (0), the first blocks as well (``count``), or nothing (-1).

        With all blocks, the final norm is frozen, too. What is frozen stays in eval mode.

        Raises:
            ValueError: The model has fewer blocks.
        """
        if check_whole("frozen_stages", count, least=-1) > self.depth:
            raise ValueError(f"frozen_stages={count}: write -1 for none, or up to {self.depth} blocks")
        self.frozen_stages = count
        if count >= 0:
            for token in (self.vit.cls_token, self.vit.reg_token, self.vit.pos_embed):
                if token is not None:
                    token.requires_grad_(False)
        for part in self._frozen_modules():
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> OpenMMLabViT:
        """Switch to training or eval mode; frozen blocks are always in eval mode."""
        super().train(mode)
        for part in self._frozen_modules():
            part.eval()
        return self

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Where a parameter lies, for mmpretrain's ``LearningRateDecayOptimWrapperConstructor``.

        Args:
            param_name: Its name.
            prefix: Prefix of this model's names.

        Returns:
            Its layer, 0 for the embeddings and ``depth + 1`` for the final norm and for what is not of this model; and
            the number of layers, ``depth + 2``.
        """
        layers = self.depth + 2
        parts = param_name.removeprefix(prefix).split(".")
        if not param_name.startswith(prefix) or parts[:2] == ["vit", "norm"]:
            return layers - 1, layers
        if parts[:2] == ["vit", "blocks"]:
            return int(parts[2]) + 1, layers
        return (0 if parts[0] in ("vit", "mask_token") else layers - 1), layers

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        blocks = self.vit.blocks[: self.frozen_stages]
        norm = [self.vit.norm] if self.frozen_stages == self.depth else []
        return [self.vit.patch_embed, self.vit.norm_pre, *blocks, *norm]
