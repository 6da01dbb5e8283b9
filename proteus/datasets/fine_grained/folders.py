"""Labelled sets with one folder per class: your own images, and ImageNet-1K."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from proteus.datasets.fine_grained.base import FineGrainedSet, Part, Split
from proteus.datasets.fine_grained.listing import Listed, class_folders
from proteus.registry import DATASETS


@DATASETS.register_module()
class ClassFolders(FineGrainedSet):
    """Labelled set of your own: ``train``, ``test`` and, optionally, ``val``, each with one folder per class.

    Classes are numbered by the folders of ``train``. Without ``val``, a random fifth of ``train`` is used for it.

    Args:
        data_root: Folder of the set.
        metric: ``top1``, or ``mean_per_class`` for sets with classes of very different sizes.
        **fine_grained: As for :class:`FineGrainedSet`.

    Attributes:
        parts: Folder of each split.

    Raises:
        ValueError: A class folder is empty, or ``test`` has a class that ``train`` lacks.
    """

    title = "class folders"
    folder = "."
    markers = ("train",)
    layout = """
train/CLASS/IMAGE.jpg ...
test/CLASS/IMAGE.jpg ...
val/CLASS/IMAGE.jpg ...      (optional)"""
    source = "one folder per class"
    parts: ClassVar[dict[Part, str]] = {"train": "train", "val": "val", "test": "test"}

    def __init__(
        self,
        data_root: str,
        split: Split,
        pipeline: Sequence[Any] = (),
        indices: int | Sequence[int] | None = None,
        metric: Any = "top1",
    ) -> None:
        if metric not in ("top1", "mean_per_class"):
            raise ValueError(f"dataset.metric={metric!r}: write 'top1' or 'mean_per_class'")
        self.metric = metric
        home = Path(data_root).expanduser()
        self.title = home.name
        self.has_val = "val" not in (self.parts["train"], self.parts["test"]) and (home / "val").is_dir()
        self._classes: dict[str, list[str]] | None = None
        super().__init__(data_root, split, pipeline, indices)

    @property
    def train_classes(self) -> dict[str, list[str]]:
        """Classes of ``train`` and the names of their images; labels are numbered by these classes."""
        if self._classes is None:
            self._classes = class_folders(self.file(self.parts["train"]))
        return self._classes

    def list_part(self, part: Part) -> list[Listed]:
        """List the images in the class folders."""
        self.num_classes = getattr(type(self), "num_classes", None) or len(self.train_classes)
        numbers = self.classes_of(list(self.train_classes), self.home / self.parts["train"])
        root = self.file(self.parts[part])
        listed = []
        for name, images in (self.train_classes if part == "train" else class_folders(root)).items():
            label = self.named(name, numbers, str(root))
            listed += [Listed(f"{root}/{name}/{image}", label, str(root / name)) for image in images]
        return listed


@DATASETS.register_module()
class ImageNet1K(ClassFolders):
    """ImageNet-1K in the usual layout; ``test`` has its validation images.

    Args:
        **fine_grained: As for :class:`FineGrainedSet`.
    """

    title = "ImageNet-1K"
    num_classes = 1000
    sizes = (1_281_167, None, 50_000)
    folder = "imagenet"
    layout = """
train/n01440764/n01440764_10026.JPEG ... (1,000 folders)
val/n01440764/ILSVRC2012_val_00000293.JPEG ..."""
    source = "ILSVRC2012 with the validation images sorted into class folders"
    parts: ClassVar[dict[Part, str]] = {"train": "train", "val": "val", "test": "val"}
