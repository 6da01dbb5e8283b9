"""ImageNet-1K's validation set and the sets of new images of its classes, labelled in its numbering."""

from __future__ import annotations

from collections.abc import Sequence
from logging import WARNING
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mmengine.logging import print_log

from proteus.datasets.proxy.folder import ImageFolder
from proteus.datasets.robustness.wnids import check_wnids, subset_classes, wnid_numbers
from proteus.registry import DATASETS
from proteus.structures import DataError
from proteus.utils.files import class_names


class Variant(NamedTuple):
    """A published set.

    Attributes:
        name: What it is called.
        images: How many images it has.
        subset: Which of the classes; None for all 1,000.
    """

    name: str
    images: int
    subset: str | None = None

    def classes(self) -> tuple[int, ...]:
        """The numbers of its classes."""
        return tuple(range(1000)) if self.subset is None else subset_classes(self.subset)


VARIANTS = {
    "val": Variant("ImageNet-1K validation", 50_000),
    "a": Variant("ImageNet-A", 7_500, "imagenet_a"),
    "r": Variant("ImageNet-R", 30_000, "imagenet_r"),
    "sketch": Variant("ImageNet-Sketch", 50_889),
}


@DATASETS.register_module()
class ImageNetVariant(ImageFolder):
    """Images in folders that are called by their class's wnid, labelled with its number in ImageNet-1K.

    ``LabelledFolder`` numbers the folders that it finds; here the class of a folder has the same number whichever other
    folders are there (docs/reproduction.md#robustness).

    Args:
        variant: The published set that this is a copy of, whose class folders must all be there and no others: ``val``,
            ``a``, ``r`` or ``sketch``. By default any of the 1,000 folders. Another number of images than the published
            one is told in the log and by :meth:`describe`.
        **folder: As for :class:`ImageFolder`.

    Raises:
        FileNotFoundError: There is no such folder, or no image in it.
        DataError: A folder is no class's, or has no image, or the folders are not the variant's.
        ValueError: There is no such variant.
    """

    def __init__(self, variant: Literal["val", "a", "r", "sketch"] | None = None, **folder: Any) -> None:
        if variant is not None and variant not in VARIANTS:
            raise ValueError(f"dataset.variant={variant!r}: write one of {', '.join(map(repr, VARIANTS))}, or None")
        self.variant = None if variant is None else VARIANTS[variant]
        super().__init__(**folder)

    def load_data_list(self) -> Sequence[dict[str, Any]]:
        """List the images, sorted by path, with their labels."""
        images = super().load_data_list()
        root = Path(self.data_root).expanduser()
        there = set(class_names(root))
        check_wnids(there, root, None if self.variant is None else self.variant.classes(), self._name)
        labels = []
        for image in images:
            wnid, separator, _ = Path(self.name_of(image)).as_posix().partition("/")
            if not separator:
                raise DataError(f"{image['img_path']} is in no class's folder; {self._name} expects {root}/WNID/IMAGE")
            check_wnids([wnid], root, None, self._name)  # of a hidden folder, too
            labels.append(wnid_numbers()[wnid])
        # A part (split) may leave a class out; the whole may not.
        empty = there - {Path(self.name_of(image)).parts[0] for image in images} if self.split == "all" else ()
        if empty:
            raise DataError(f"{root / min(empty)} has no image: {self._name} needs some of each class; unpack it again")
        if self._difference(len(images)):
            print_log(f"{self._name}, {root}{self._difference(len(images))}", "current", WARNING)
        return [{**image, "label": label} for image, label in zip(images, labels, strict=True)]

    def describe(self) -> str:
        """As for :class:`ImageFolder`, with the published set's name, and its size where this copy has another."""
        return f"{self._name}, {super().describe()}{self._difference(self.whole)}"

    def _difference(self, images: int) -> str:
        if self.variant is None or self.split != "all" or images == self.variant.images:
            return ""
        return f" (its folder has {images:,}, the published set {self.variant.images:,})"

    @property
    def _name(self) -> str:
        return "a set of ImageNet-1K's classes" if self.variant is None else self.variant.name
