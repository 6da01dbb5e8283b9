"""Whether the parts of a segmentor fit each other."""

from __future__ import annotations

from typing import Any

from torch import nn

from proteus.structures import DataError


def check_widths(model: nn.Module, key: str = "model.") -> None:
    """Compare the maps that a backbone of ours gives with what mmseg's ``Feature2Pyramid`` and heads take.

    Args:
        model: A segmentor, or any other model, which is not looked at.
        key: Of the segmentor in the config, with a dot at its end.

    Raises:
        DataError: Names the key and the value that fits.
    """
    widths = getattr(getattr(model, "backbone", None), "channels", None)
    neck = getattr(model, "neck", None)
    if widths is None:
        return
    if neck is not None:
        if type(neck).__name__ != "Feature2Pyramid":
            return
        taken, given = neck.upsample_2x[0].in_channels, set(widths)
        if given != {taken} or len(widths) != len(neck.rescales):
            raise DataError(
                f"{key}neck takes {len(neck.rescales)} maps of width {taken}, and {key}backbone gives "
                f"{list(widths)}: write {key}neck.embed_dim={widths[0]}"
                + ("" if len(given) == 1 else f", or {key}neck=None for a backbone with maps of decreasing size")
            )
    for name, head in heads(model, key):
        transform, index = head.input_transform, head.in_index
        chosen = index if isinstance(index, (list, tuple)) else [index]
        if max(chosen) >= len(widths):
            raise DataError(f"{name}.in_index = {index}: {key}backbone gives {len(widths)} maps (out_indices)")
        wanted = [widths[position] for position in chosen]
        taken = [head.in_channels] if isinstance(head.in_channels, int) else list(head.in_channels)
        if taken != ([sum(wanted)] if transform == "resize_concat" else wanted):
            value = wanted if transform else wanted[0]
            raise DataError(
                f"{name}.in_channels does not fit the maps of {key}backbone: write {name}.in_channels={value}"
            )


def heads(model: Any, key: str = "model.") -> list[tuple[str, Any]]:
    """The heads of a segmentor of mmseg's, each with its key."""
    auxiliary = getattr(model, "auxiliary_head", None)
    several = isinstance(auxiliary, nn.ModuleList)
    others = enumerate(auxiliary) if several else [("", auxiliary)]  # type: ignore[arg-type]
    found = [(f"{key}decode_head", getattr(model, "decode_head", None))]
    found += [(f"{key}auxiliary_head.{number}".rstrip("."), head) for number, head in others]
    return [(name, head) for name, head in found if head is not None and hasattr(head, "in_index")]
