"""Target tasks without class folders: HAM10000 and Places365. ``LabelledFolder`` reads EuroSAT and ImageNet."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from hashlib import sha1
from typing import Any, ClassVar

from proteus.datasets.fine_grained import FineGrainedSet
from proteus.datasets.fine_grained.base import Part, Split
from proteus.datasets.fine_grained.listing import Listed, read_rows
from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.datasets.proxy.subsampling import choose
from proteus.registry import DATASETS


class TargetSet(FineGrainedSet):
    """A labelled set that can be limited to some images per class.

    Args:
        data_root: Folder of the set.
        split: ``trainval`` for labels, ``test`` for the accuracy.
        pipeline: See :class:`~proteus.datasets.ProxySet`.
        indices: See :class:`~proteus.datasets.ProxySet`; counted within the split.
        images_per_class: Number of images per class; all by default.
        subset_seed: Seed of their selection, which depends only on it and on the files' names.

    Raises:
        FileNotFoundError: A file is missing; the message names it, and the layout.
        ValueError: A file has an invalid entry, or a class has too few images.
    """

    def __init__(
        self,
        data_root: str,
        split: Split,
        pipeline: Sequence[Any] = (),
        indices: int | Sequence[int] | None = None,
        images_per_class: int | None = None,
        subset_seed: int = 0,
    ) -> None:
        self.images_per_class = images_per_class
        self.subset_seed = subset_seed
        super().__init__(data_root, split, pipeline, indices)

    def filter_data(self) -> list[dict[str, Any]]:
        """Select ``images_per_class`` images; called by BaseDataset on the complete list."""
        listed: list[dict[str, Any]] = self.data_list
        if self.images_per_class is None:
            return listed
        paths = [f"{info['label']}/{self._name(info)}" for info in listed]
        return [listed[position] for position in choose(paths, self.images_per_class, None, self.subset_seed)]

    def describe(self) -> str:
        """Describe the set and the selection of its images."""
        part = f" of {self.full_size:,} (images_per_class={self.images_per_class}, subset_seed={self.subset_seed})"
        return super().describe() + part * (self.images_per_class is not None)

    def chosen(self) -> dict[str, list[str]]:
        """Return the names of the selected images, if not all are used."""
        if self.images_per_class is None:
            return {}
        return {"": [self._name(ProxySet.get_data_info(self, index)) for index in range(len(self))]}

    def _name(self, info: dict[str, Any]) -> str:
        return str(info["img_path"])[len(str(self.home)) + 1 :]


@DATASETS.register_module()
class HAM10000(TargetSet):
    """HAM10000: 10,015 dermatoscopic images of seven diagnoses (Tschandl et al., 2018).

    The archive has no test split. Here a fifth of the lesions is for testing, selected by their ids: several images may
    show one lesion, and no lesion is in both splits. The paper's test images are unknown.

    Args:
        **target: Arguments of :class:`TargetSet`.
    """

    title = "HAM10000"
    num_classes = 7
    folder = "ham10000"
    markers = ("HAM10000_metadata.csv", "HAM10000_images_part_1")
    layout = """
HAM10000_metadata.csv
HAM10000_images_part_1/ISIC_0024306.jpg ...
HAM10000_images_part_2/ISIC_0029306.jpg ..."""
    source = "HAM10000_metadata.csv with HAM10000_images_part_1.zip and HAM10000_images_part_2.zip"
    diagnoses = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    _FOLDERS: ClassVar[tuple[str, str]] = ("HAM10000_images_part_1", "HAM10000_images_part_2")

    def list_part(self, part: Part) -> list[Listed]:
        """Read the metadata and find the folder of each image."""
        path = self.file("HAM10000_metadata.csv")
        folders = {file.stem: file for name in self._FOLDERS for file in self.file(name).glob("*.jpg")}
        classes = self.classes_of(self.diagnoses, path)
        listed = []
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines)
            missing = {"lesion_id", "image_id", "dx"} - set(rows.fieldnames or ())
            if missing:
                raise ValueError(f"{path} lacks the column {min(missing)}; it has {', '.join(rows.fieldnames or ())}")
            for row in rows:
                if _for_test(row["lesion_id"]) == (part == "test"):
                    where = f"{path}, line {rows.line_num}"
                    file = folders.get(row["image_id"], self.home / self._FOLDERS[0] / f"{row['image_id']}.jpg")
                    listed.append(Listed(str(file), self.named(row["dx"], classes, where), where))
        return listed


@DATASETS.register_module()
class Places365(TargetSet):
    """Places365-Standard with its small images, 256 x 256; its validation images are the test split.

    Args:
        **target: Arguments of :class:`TargetSet`.
    """

    title = "Places365"
    num_classes = 365
    sizes = (1_803_460, None, 36_500)
    folder = "places365"
    markers = ("categories_places365.txt", "places365_train_standard.txt", "places365_val.txt")
    layout = """
categories_places365.txt, places365_train_standard.txt, places365_val.txt
data_256/a/airfield/00000001.jpg ... (or data_256_standard, as torchvision renames it)
val_256/Places365_val_00000001.jpg ..."""
    source = "filelist_places365-standard.tar with train_256_places365standard.tar and val_256.tar"

    def list_part(self, part: Part) -> list[Listed]:
        """Read a list; each line has an image and its class index."""
        names = self.file("categories_places365.txt")
        self.classes_of([row.fields[0] for row in read_rows(names, 2)], names)
        listing = self.file("places365_val.txt" if part == "test" else "places365_train_standard.txt")
        root = self.file("val_256") if part == "test" else self.file("data_256", "data_256_standard")
        return [
            Listed(f"{root}/{image.lstrip('/')}", self.numbered(number, 0, where), where)
            for where, (image, number) in read_rows(listing, 2)
        ]


def _for_test(lesion: str) -> bool:
    return int.from_bytes(sha1(lesion.encode()).digest()[:8], "big") < 2**64 / 5
