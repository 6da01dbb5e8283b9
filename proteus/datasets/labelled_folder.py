"""Proxy set with labels: a folder of images with one folder per class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proteus.datasets.proxy.folder import EXTENSIONS, ImageFolder
from proteus.datasets.proxy.folder_index import ImageList
from proteus.registry import DATASETS
from proteus.structures import DataError
from proteus.utils.files import class_names, walk


@DATASETS.register_module()
class LabelledFolder(ImageFolder):
    """All images below a folder, labelled by the first folder of their paths, as in the layout of ImageNet-1K.

    Classes are numbered from 0 in the alphabetical order of their folders, also in subsets.

    Args:
        num_classes: Expected number of classes. Set it if known: missing folders would shift the labels of others.
        **folder: As for :class:`ImageFolder`.

    Attributes:
        classes_found: Names of the class folders by label.

    Raises:
        FileNotFoundError: As for :class:`ImageFolder`, or a class folder has no images.
        DataError: An image is not in a class folder, or the number of classes is not ``num_classes``.
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
                    f"dataset.data_root: {images.root}{name} is not in a class folder; LabelledFolder expects "
                    f"{self.data_root}/CLASS/IMAGE, or write type='ImageFolder' for images without labels"
                )
            folders.append(folder)
        self.classes_found = sorted(set(folders) | self._other_classes(set(folders)))
        if self.num_classes not in (None, len(self.classes_found)):
            raise DataError(
                f"dataset.num_classes={self.num_classes}, but {self.data_root} has {len(self.classes_found)} class "
                f"folders: complete the set, or write num_classes={len(self.classes_found)} in "
                "train_dataloader.dataset, val_dataloader.dataset, test_dataloader.dataset and, where they have it, "
                "model.objectives.NAME, model.data_preprocessor, model.head and model.head.loss"
            )
        number = {name: position for position, name in enumerate(self.classes_found)}
        return images.labelled([number[folder] for folder in folders])

    def _other_classes(self, found: set[str]) -> set[str]:
        """Find the classes without images in ``split``; they count, so that all splits have the same labels."""
        root = Path(self.data_root).expanduser()
        others = set(class_names(root)) - found
        for name in sorted(others):
            same = next((other for other in sorted(found) if os.path.samefile(root / name, root / other)), None)
            if same is not None:
                raise DataError(
                    f"dataset.data_root: {root / name} links to the class folder {same}: its images would "
                    "belong to two classes; remove the link"
                )
            walked = walk(root / name, EXTENSIONS)
            if not walked.files:
                raise FileNotFoundError(
                    f"dataset.data_root: the class folder {root / name} has no images (looked for "
                    f"{', '.join(EXTENSIONS)}) and would shift the labels of later classes; complete it, or remove it"
                    f"{walked.hint}"
                )
        return others
