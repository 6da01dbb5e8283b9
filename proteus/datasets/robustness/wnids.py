"""Classes of ImageNet-1K: folder names (wnids) and class indices."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from timm.data import ImageNetInfo

from proteus.structures import DataError

_SUBSETS = Path(__file__).with_name("imagenet_subsets.json")
IMAGENET_SUBSETS = ("imagenet_a", "imagenet_r")


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """Return the 1,000 wnids by class index, in alphabetical order, from timm."""
    return tuple(ImageNetInfo().label_names())


@cache
def wnid_numbers() -> Mapping[str, int]:
    """Return the class index of each of the 1,000 wnids."""
    return MappingProxyType({wnid: number for number, wnid in enumerate(imagenet_wnids())})


@cache
def subset_classes(subset: str) -> tuple[int, ...]:
    """Return the ascending indices of the 200 classes of ImageNet-A or -R; 86 are in both.

    The lists are those of the evaluation scripts of hendrycks/natural-adv-examples and hendrycks/imagenet-r.

    Args:
        subset: One of ``IMAGENET_SUBSETS``.
    """
    return tuple(json.loads(_SUBSETS.read_text(encoding="utf-8"))[f"{subset}_classes"])


def check_wnids(folders: Iterable[str], root: Path, expected: Iterable[int] | None, name: str) -> None:
    """Check that class folders are those of a set.

    Args:
        folders: Names of the folders.
        root: Folder that contains them.
        expected: Indices of the classes that must be present, and no others; None for any of the 1,000.
        name: Name of the data set, for messages.

    Raises:
        DataError: A folder is not named by a wnid, a class has no folder, or a folder is not of this set.
    """
    found = set(folders)
    unknown = sorted(found - wnid_numbers().keys())
    if unknown:
        raise DataError(
            f"{root} has {len(unknown)} folder{'s'[: len(unknown) > 1]} without a class of ImageNet-1K: "
            f"{_shorten(unknown)}; {name} expects only {root}/WNID/IMAGE, such as {root}/{imagenet_wnids()[0]}/..."
        )
    if expected is None:
        return
    wanted = {imagenet_wnids()[number] for number in expected}
    missing, surplus = sorted(wanted - found), sorted(found - wanted)
    if missing or surplus:
        words = [f"lacks {_shorten(missing)}"] if missing else []
        words += [f"has {_shorten(surplus)}, which {name} does not have"] if surplus else []
        raise DataError(
            f"{name} has {len(wanted)} class folders; {root} has {len(found)}: it {' and '.join(words)}. Unpack it "
            "again, or name the folder of the right set"
        )


def _shorten(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
