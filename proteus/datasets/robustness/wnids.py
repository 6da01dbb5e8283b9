"""ImageNet-1K's classes: names of folders (wnids) and their numbers."""

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
    """The 1,000 wnids by number, which is their alphabetical order; timm's list."""
    return tuple(ImageNetInfo().label_names())


@cache
def wnid_numbers() -> Mapping[str, int]:
    """The number of each of the 1,000 wnids."""
    return MappingProxyType({wnid: number for number, wnid in enumerate(imagenet_wnids())})


@cache
def subset_classes(subset: str) -> tuple[int, ...]:
    """The numbers, ascending, of the 200 classes of ImageNet-A or -R; 86 are in both.

    From the evaluation scripts of hendrycks/natural-adv-examples and hendrycks/imagenet-r.

    Args:
        subset: One of ``IMAGENET_SUBSETS``.
    """
    return tuple(json.loads(_SUBSETS.read_text(encoding="utf-8"))[f"{subset}_classes"])


def check_wnids(folders: Iterable[str], root: Path, expected: Iterable[int] | None, name: str) -> None:
    """Refuse folders that are not those of the classes that there should be.

    Args:
        folders: Their names.
        root: Where they are.
        expected: The numbers of the classes that there must be, no more and no less; None for any of the 1,000.
        name: What to call the data set.

    Raises:
        DataError: A folder is no class's, a class has no folder, or a folder's class is not of this set.
    """
    found = set(folders)
    unknown = sorted(found - wnid_numbers().keys())
    if unknown:
        raise DataError(
            f"{root} has {_counted(len(unknown), 'folder')} that {_verb(len(unknown))} no class of ImageNet-1K: "
            f"{_listed(unknown)}; {name} expects {root}/WNID/IMAGE, such as {root}/{imagenet_wnids()[0]}/..., and "
            "nothing else"
        )
    if expected is None:
        return
    wanted = {imagenet_wnids()[number] for number in expected}
    missing, surplus = sorted(wanted - found), sorted(found - wanted)
    if missing or surplus:
        words = [f"lacks {_listed(missing)}"] if missing else []
        words += [f"has {_listed(surplus)}, which {name} has not"] if surplus else []
        raise DataError(
            f"{name} has {len(wanted)} class folders; {root} has {len(found)}: it {' and '.join(words)}. Unpack it "
            "again, or name the folder of the right set"
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _counted(number: int, noun: str) -> str:
    return f"a {noun}" if number == 1 else f"{number} {noun}s"


def _verb(number: int) -> str:
    return "is" if number == 1 else "are"
