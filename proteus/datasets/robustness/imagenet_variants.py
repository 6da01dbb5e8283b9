"""ImageNet-1K's validation set, ImageNet-A, -R and -Sketch, with the labels of ImageNet-1K."""

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
        name: Name of the set.
        images: Number of its images.
        subset: Name of its subset of classes; None for all 1,000.
    """

    name: str
    images: int
    subset: str | None = None

    def classes(self) -> tuple[int, ...]:
        """Return the indices of its classes."""
        return tuple(range(1000)) if self.subset is None else subset_classes(self.subset)


VARIANTS = {
    "val": Variant("ImageNet-1K validation", 50_000),
    "a": Variant("ImageNet-A", 7_500, "imagenet_a"),
    "r": Variant("ImageNet-R", 30_000, "imagenet_r"),
    "sketch": Variant("ImageNet-Sketch", 50_889),
}


@DATASETS.register_module()
class ImageNetVariant(ImageFolder):
    """Images in class folders named by wnid, labelled with the class indices of ImageNet-1K.

    Unlike in ``LabelledFolder``, the label of a folder does not depend on which other folders are present
    (docs/reproduction.md#robustness).

    Args:
        variant: Published set: ``val``, ``a``, ``r`` or ``sketch``. Exactly its class folders must be present. By
            default any of the 1,000 folders may be present. If the number of images differs from the published one,
            the log and :meth:`describe` say so.
        **folder: As for :class:`ImageFolder`.

    Raises:
        FileNotFoundError: The folder does not exist, or has no images.
        DataError: A folder is not named by a wnid or has no images, or the folders are not those of the variant.
        ValueError: ``variant`` is unknown.
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
                raise DataError(f"{image['img_path']} is not in a class folder; {self._name} expects {root}/WNID/IMAGE")
            check_wnids([wnid], root, None, self._name)  # also for hidden folders
            labels.append(wnid_numbers()[wnid])
        # A split may lack a class; the complete set may not.
        empty = there - {Path(self.name_of(image)).parts[0] for image in images} if self.split == "all" else ()
        if empty:
            raise DataError(
                f"{root / min(empty)} has no images: {self._name} needs images of every class; unpack it again"
            )
        if self._difference(len(images)):
            print_log(f"{self._name}, {root}{self._difference(len(images))}", "current", WARNING)
        return [{**image, "label": label} for image, label in zip(images, labels, strict=True)]

    def describe(self) -> str:
        """Describe the folder, with the name of the published set and its size if this copy has another."""
        return f"{self._name}, {super().describe()}{self._difference(self.full_size)}"

    def _difference(self, images: int) -> str:
        if self.variant is None or self.split != "all" or images == self.variant.images:
            return ""
        return f" ({images:,} images in the folder, {self.variant.images:,} in the published set)"

    @property
    def _name(self) -> str:
        return "a set of ImageNet-1K's classes" if self.variant is None else self.variant.name
