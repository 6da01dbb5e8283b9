"""The models as a table for the terminal."""

from __future__ import annotations

from typing import Literal

from proteus.models.zoo.names import find_model, list_models
from proteus.models.zoo.record import ModelRecord
from proteus.models.zoo.weights import weights_on_disk
from proteus.structures import UserError

_HEADER = ("name", "parameters", "patch", "size", "width", "licence", "weights")
# A record of timm's or mmpretrain's needs its model to be built without memory.
_MOST_BUILT = 50


def models_table(pattern: str = "*", role: Literal["teacher", "student"] | None = None) -> str:
    """Return a table of models: parameters, patch and image size, width, licence, and the path of the weights.

    Args:
        pattern: As for :func:`~proteus.models.zoo.list_models`; a word without ``*`` and ``?`` matches names that
            contain it.
        role: ``teacher`` or ``student``; None for both.

    Raises:
        UserError: No name matches; the message says how to list all.
    """
    names = list_models(pattern, role)
    if not names and not set(pattern) & set("*?["):
        names = list_models(f"{pattern}*" if "/" in pattern else f"*{pattern}*", role)
    if not names:
        raise UserError(
            f"no model matches '{pattern}'; `proteus models` lists all short names, `proteus models 'timm/*'` timm's"
        )
    if "/" in pattern and len(names) > _MOST_BUILT:
        return "\n".join([*names, f"{len(names)} names; a pattern with at most {_MOST_BUILT} prints the facts"])
    rows = [_HEADER, *(_row(find_model(name)) for name in names)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    left = (0, len(_HEADER) - 2, len(_HEADER) - 1)
    lines = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _row(record: ModelRecord) -> tuple[str, ...]:
    path = weights_on_disk(record)
    can_teach = bool(record.files or record.weights)
    return (
        record.name,
        _millions(record.params),
        str(record.patch_size or "-"),
        str(record.img_size),
        str(record.width),
        record.licence or "-",
        (str(path) if path is not None else "absent") if can_teach else "random",
    )


def _millions(count: int | None) -> str:
    if count is None:
        return "-"
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"
