"""A user's own data sets for evaluation, recognised by the layout of their folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proteus.apis.resources import check_folder
from proteus.datasets import CaptionedImages
from proteus.datasets.captions import has_captions
from proteus.datasets.fine_grained import ClassFolders
from proteus.registry import PROTOCOLS
from proteus.structures import ConfigError, UserError

_LAYOUTS = {
    "ClassFolders": "train/CLASS/IMAGE.jpg and test/CLASS/IMAGE.jpg",
    "MaskFolders": "images/{train,val} and annotations/{train,val}",
    "CaptionedImages": "captions.jsonl, captions.csv, captions.txt or dataset_*.json",
}


def kind_of(folder: str | Path) -> str:
    """Return the type of the data set that a folder holds: captions, or images and masks, or else class folders."""
    if has_captions(folder):
        return "CaptionedImages"
    has_masks = all((Path(folder).expanduser() / name).is_dir() for name in ("images", "annotations"))
    return "MaskFolders" if has_masks else "ClassFolders"


def own_sets(folders: Sequence[str | Path]) -> dict[str, dict[str, str]]:
    """Return configs of a user's data sets by the names of their folders, after checking their layouts.

    Raises:
        ConfigError: Two folders have the same name.
        UserError: A folder is missing or has another layout.
    """
    own: dict[str, dict[str, str]] = {}
    for folder in folders:
        root = checked_folder(folder, "--sets").resolve()
        if not root.name:
            raise UserError(f"--sets '{folder}' has no name for the data set; name a folder below it")
        if root.name in own:
            both = f"'{own[root.name]['data_root']}' and '{root}'"
            raise ConfigError([f"{both} have the same name, which results are kept by; rename one"], "--sets")
        own[root.name] = {"type": kind_of(root), "data_root": str(root)}
        try:
            _check(root, own[root.name]["type"])
        except (ValueError, FileNotFoundError) as error:
            raise UserError(f"--sets '{folder}': {error}") from error
    return own


def fitting_sets(
    name: str, protocol: Mapping[str, Any], own: Mapping[str, dict[str, str]]
) -> dict[str, dict[str, str]]:
    """Return those of a user's data sets that a protocol can read.

    Args:
        name: Name of the protocol, for the message.
        protocol: Its config.
        own: From :func:`own_sets`.

    Raises:
        ConfigError: It can read none of them.
    """
    wanted = getattr(PROTOCOLS.get(protocol["type"]), "own_set", "ClassFolders")
    fitting = {title: config for title, config in own.items() if config["type"] == wanted}
    if not fitting:
        raise ConfigError([f"{name} reads {_LAYOUTS[wanted]}, which none of the folders has"], "--sets")
    return fitting


def checked_folder(name: str | Path, option: str) -> Path:
    """Return the path of a folder that an option names.

    Raises:
        UserError: It is missing; the message begins with the option.
    """
    try:
        return check_folder(name)
    except UserError as error:
        raise UserError(f"{option} {error}") from error


def _check(root: Path, kind: str) -> None:
    if kind == "CaptionedImages":
        CaptionedImages(str(root))
    if kind != "ClassFolders":
        return
    for part in ("train", "test"):
        if not (root / part).is_dir():
            what = "is a file" if (root / part).exists() else "is missing"
            if part == "test" and what == "is missing" and (root / "val").is_dir():
                raise UserError(
                    f"{root / part} is missing: accuracies are measured on test/, and val/ only chooses settings; "
                    "rename val to test, or add test/CLASS/IMAGE.jpg"
                )
            raise UserError(f"{root / part} {what}; expected {', or '.join(_LAYOUTS.values())}")
    classes = [ClassFolders(str(root), part).num_classes for part in ("trainval", "test")]
    if classes[0] < 2:
        raise UserError(f"{root} has one class; an accuracy needs two or more, a folder for each")
