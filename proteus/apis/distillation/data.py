"""The images of a distillation run: folders or the packaged photographs, and the part that is held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from proteus.apis.auto_values import choose_held_out
from proteus.apis.resources import check_folder
from proteus.datasets import ImageFolder
from proteus.datasets.packaged import packaged_photographs
from proteus.datasets.proxy.folder import list_images
from proteus.structures import DataError, UserError
from proteus.utils.urls import is_url, redact

PACKAGED = "packaged"
_SHARDS = (
    "shards are read by a config with train_dataloader.dataset=dict(type='WebShards', data_root=...) and proteus train "
    "(docs/large_data.md)"
)


@dataclass(frozen=True)
class RunImages:
    """Images of a run, divided into training and held-out ones.

    Attributes:
        folders: Absolute paths; empty for the packaged photographs.
        train: Number of training images.
        held_out: Number of held-out images.
        share: Share of the images that is held out, by their names.
    """

    folders: tuple[str, ...]
    train: int
    held_out: int
    share: float

    @property
    def name(self) -> str:
        """Names of the folders, for the model card."""
        return ", ".join(_names(self.folders)) if self.folders else "packaged photographs"

    def dataset(self, split: Literal["train", "held-out"], pipeline: Sequence[Any]) -> dict[str, Any]:
        """Return the config of a data set of one part."""
        if not self.folders:
            return {"type": "PackagedPhotographs", "split": split, "pipeline": pipeline}
        parts = [
            {"type": "ImageFolder", "data_root": folder, "split": split, "held_out": self.share}
            for folder in self.folders
        ]
        if len(parts) == 1:
            return {**parts[0], "pipeline": pipeline}
        return {
            "type": "ConcatProxySet",
            "datasets": dict(zip(_names(self.folders), parts, strict=True)),
            "pipeline": pipeline,
        }


def find_images(data: str | Path | Sequence[str | Path]) -> RunImages:
    """List the images of a run and choose the share to hold out.

    Args:
        data: ``packaged``, a folder, or several folders; subfolders are included.

    Raises:
        UserError: A folder does not exist, cannot be read, or is inside another one.
        DataError: A folder has no images, or there are too few to train and to compare.
    """
    given = [data] if isinstance(data, (str, Path)) else list(data)
    if not given:
        raise UserError("data: no folder; give a folder of images, or 'packaged'")
    if [str(name) for name in given] == [PACKAGED]:
        train, kept = len(packaged_photographs("train")), len(packaged_photographs("held-out"))
        return RunImages((), train, kept, round(kept / (train + kept), 2))
    for name in given:
        if is_url(name):
            raise UserError(f"data: '{redact(str(name))}' is a URL, and folders of images are read here; {_SHARDS}")
    folders = [check_folder(name).resolve() for name in given]
    for folder in folders:
        outer = next((other for other in folders if other in folder.parents), None)
        if outer is not None or folders.count(folder) > 1:
            raise UserError(f"data: '{folder}' is read twice, since '{outer or folder}' is given as well; remove one")
    names = [_names_of_images(folder) for folder in folders]
    total = sum(map(len, names))
    first = choose_held_out(total)
    for share in sorted({first, *(each for each in (0.2, 0.3, 0.5) if each > first)}):
        held_out = [[ImageFolder.is_chosen(name, "held-out", share) for name in part].count(True) for part in names]
        usable = all(0 < held < len(part) for held, part in zip(held_out, names, strict=True))
        if sum(held_out) >= 2 and usable:
            return RunImages(tuple(map(str, folders)), total - sum(held_out), sum(held_out), share)
    raise DataError(
        f"data: {total} image{'s' * (total != 1)} in {', '.join(map(str, folders))}; some are held out for validation, "
        "chosen by name, and some train: use 20 or more in each folder"
    )


def _names_of_images(folder: Path) -> list[str]:
    try:
        return list_images(folder, "data")
    except DataError:
        if next(folder.rglob("*.tar"), None) is None:
            raise
        raise DataError(f"data: '{folder}' holds shards (.tar) and no image files; {_SHARDS}") from None


def _names(folders: Sequence[str]) -> list[str]:
    """Name each set by its folder; equal names get a number."""
    found: list[str] = []
    for folder in folders:
        name, number = Path(folder).name, 1
        while name in found:
            number += 1
            name = f"{Path(folder).name}_{number}"
        found.append(name)
    return found
