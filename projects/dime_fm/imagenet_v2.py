"""ImageNet-V2, with class indices as folder names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proteus.datasets import ImageFolder
from proteus.datasets.proxy.folder_index import ImageList
from proteus.registry import DATASETS
from proteus.structures import DataError
from proteus.utils.files import class_names

_CLASSES = 1000


@DATASETS.register_module()
class ImageNetV2(ImageFolder):
    """ImageNet-V2 in the layout of its archives: ``imagenetv2-.../0/IMAGE.jpeg`` to ``.../999/IMAGE.jpeg``.

    A folder's name is its class index. (Sorted by name, folder 10 would come before folder 2.)

    Args:
        all_classes: Whether all 1,000 folders must exist.
        **folder: Arguments of :class:`~proteus.datasets.ImageFolder`.

    Raises:
        FileNotFoundError: The folder does not exist, or has no image.
        DataError: A folder's name is not a class index, or a class is missing.
    """

    def __init__(self, all_classes: bool = True, **folder: Any) -> None:
        self.all_classes = all_classes
        super().__init__(**folder)

    def load_data_list(self) -> Sequence[dict[str, Any]]:
        """List the images, sorted by path, with their labels."""
        images = super().load_data_list()
        assert isinstance(images, ImageList)
        root = Path(self.data_root).expanduser()
        folders = [name.partition("/")[0] for name in images.names()]
        there = set(class_names(root))
        wrong = sorted(name for name in {*there, *folders} if not (name.isascii() and name.isdigit()))
        wrong += [name for name in there if name.isdigit() and int(name) >= _CLASSES]
        if wrong:
            raise DataError(f"{root}: {wrong[0]!r} is not a class index; ImageNet-V2 has folders 0 to {_CLASSES - 1}")
        missing = sorted(set(range(_CLASSES)) - {int(name) for name in folders})
        if missing and self.all_classes:
            raise DataError(
                f"{root} has no image of class {missing[0]} and {len(missing) - 1} more: unpack ImageNet-V2 again"
            )
        return images.labelled([int(name) for name in folders])
