"""A small labelled set, for a nearest-neighbour figure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.dataset import Compose

from proteus.datasets import ImageFolder, LabelledFolder, ProxySet
from proteus.evaluation.online.probe_images import ProbeImages, load_probe_images, spread
from proteus.utils.files import no_folder

# WordNet ids, which ImageNet's folders are called by.
_WORDNET = re.compile(r"n\d{8}$")


@dataclass(frozen=True)
class LabelledImages:
    """Which images of which folder.

    Attributes:
        data_root: A folder with a folder of images for each class. None takes the validation set's if its folders are
            classes: it is a ``LabelledFolder``, or they have ImageNet's names (``n01440764``).
        classes: How many classes at most, at even distances among all.
        images_per_class: How many images of each at most.
        ks: Numbers of neighbours.
    """

    data_root: str | None = None
    classes: int = 100
    images_per_class: int = 20
    ks: Sequence[int] = (10, 20)

    def __post_init__(self) -> None:
        if self.classes < 2 or self.images_per_class < 2:
            raise ValueError(
                f"knn.classes={self.classes}, knn.images_per_class={self.images_per_class}: write at least 2 of each"
            )
        if not self.ks or min(self.ks) < 1:
            raise ValueError(f"knn.ks={tuple(self.ks)}: write numbers of neighbours, such as (10, 20)")

    def folder(self, validation: Any) -> str | None:
        """The folder to take the images from, or None where there is none.

        Args:
            validation: The validation set, if there is one.

        Raises:
            FileNotFoundError: ``data_root`` is not there.
        """
        if self.data_root is not None:
            if not Path(self.data_root).expanduser().is_dir():
                raise FileNotFoundError(
                    f"default_hooks.online_eval.knn.data_root: {no_folder(self.data_root)}; give one that has a "
                    "folder of images for each class, or write default_hooks.online_eval.knn=None"
                )
            return self.data_root
        return str(validation.data_root) if _tells_classes(validation) else None

    def read(self, folder: str, pipeline: Compose) -> ProbeImages:
        """Read the images.

        Raises:
            CorruptImageError: One cannot be read; the message is its path and the reason.
            ValueError: An image is in no class's folder, or there are no two classes with two images each.
        """
        dataset = LabelledFolder(data_root=folder)
        dataset.set_default_pipeline(pipeline)
        members: dict[int, list[int]] = defaultdict(list)
        for position in range(len(dataset)):
            members[ProxySet.get_data_info(dataset, position)["label"]].append(position)
        # Leaving one out, the only image of a class could never be recognised.
        several = [positions for _, positions in sorted(members.items()) if len(positions) > 1]
        if len(several) < 2:
            raise ValueError(f"{folder} has {len(several)} classes of two images or more; two classes are needed")
        chosen = [several[number] for number in spread(self.classes, len(several))]
        return load_probe_images(dataset, [one[at] for one in chosen for at in spread(self.images_per_class, len(one))])


def _tells_classes(dataset: Any) -> bool:
    if isinstance(dataset, LabelledFolder):
        return True
    if not isinstance(dataset, ImageFolder) or not len(dataset):
        return False
    names = (dataset.name_of(ProxySet.get_data_info(dataset, position)) for position in spread(50, len(dataset)))
    return all(_WORDNET.match(Path(name).parts[0]) for name in names)
