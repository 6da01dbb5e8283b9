"""A folder of images with a folder for each class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proteus.datasets.proxy.folder import EXTENSIONS, ImageFolder
from proteus.datasets.proxy.image_list import ImageList
from proteus.registry import DATASETS
from proteus.structures import DataError
from proteus.utils.files import class_names, walk


@DATASETS.register_module()
class LabelledFolder(ImageFolder):
    """All images below a folder, labelled by the first folder on their way, as ImageNet-1K is laid out.

    Classes are numbered from 0 in the order of their folders' names; a part of the set keeps the whole set's numbers.

    Args:
        num_classes: How many classes there must be, if that is known: a copy that lacks some numbers the rest wrongly.
        **folder: As for :class:`ImageFolder`.

    Attributes:
        classes_found: The folders' names, in the order of their numbers.

    Raises:
        FileNotFoundError: As for :class:`ImageFolder`, or a class's folder has no image.
        DataError: An image stands in no class's folder, a class has no image, or there are not ``num_classes``.
    """

    def __init__(self, num_classes: int | None = None, **folder: Any) -> None:
        self.num_classes = num_classes
        self.classes_found: list[str] = []
        super().__init__(**folder)

    def load_data_list(self) -> Sequence[dict[str, Any]]:
        """List the images, sorted by path, with their labels."""
        images = super().load_data_list()
        assert isinstance(images, ImageList)
        folders = []
        for name in images.names():
            folder, separator, _ = name.partition("/")
            if not separator:
                raise DataError(
                    f"dataset.data_root: {images.root}{name} is in no class's folder; LabelledFolder expects "
                    f"{self.data_root}/CLASS/IMAGE, and type='ImageFolder' reads no labels"
                )
            folders.append(folder)
        self.classes_found = sorted(set(folders) | self._other_classes(set(folders)))
        if self.num_classes not in (None, len(self.classes_found)):
            raise DataError(
                f"dataset.num_classes={self.num_classes}, but {self.data_root} has images in "
                f"{len(self.classes_found)} classes' folders: complete the set, or write that number here and in the "
                "objectives"
            )
        number = {name: position for position, name in enumerate(self.classes_found)}
        return images.labelled([number[folder] for folder in folders])

    def _other_classes(self, found: set[str]) -> set[str]:
        """The classes of which ``split`` has taken no image; they count, so that all splits number classes alike."""
        root = Path(self.data_root).expanduser()
        others = set(class_names(root)) - found
        for name in sorted(others):
            same = next((other for other in sorted(found) if os.path.samefile(root / name, root / other)), None)
            if same is not None:
                raise DataError(
                    f"dataset.data_root: {root / name} links to the class folder {same}, so that its images would "
                    "belong to two classes: remove the link"
                )
            if not walk(root / name, EXTENSIONS).files:
                raise FileNotFoundError(
                    f"dataset.data_root: the class folder {root / name} has no image ({', '.join(EXTENSIONS)} are "
                    "looked for), and would shift the numbers of the classes after it: complete it, or remove it"
                )
        return others
