"""German Traffic Sign Recognition Benchmark."""

from __future__ import annotations

import csv
from pathlib import Path

from proteus.datasets.fine_grained.base import FineGrainedSet, Part
from proteus.datasets.fine_grained.listing import Listed, class_folders
from proteus.registry import DATASETS


@DATASETS.register_module()
class GTSRB(FineGrainedSet):
    """The German Traffic Sign Recognition Benchmark (Stallkamp et al., 2012).

    The paper trains on the 26,640 images of ``GTSRB/Training``, as torchvision does. If only ``Final_Training`` is
    present, its 39,209 images are used, and :attr:`differences` says so.

    Args:
        **fine_grained: As for :class:`FineGrainedSet`.
    """

    title = "GTSRB"
    num_classes = 43
    sizes = (26_640, None, 12_630)
    folder = "gtsrb"
    other_folders = (".",)
    nested = ("gtsrb",)
    markers = ("GTSRB",)
    layout = """
GTSRB/Training/00000/GT-00000.csv, 00000_00000.ppm ... (43 folders)
GTSRB/Final_Test/Images/00000.ppm ...
GT-final_test.csv (the one with the column ClassId)"""
    source = "GTSRB-Training_fixed.zip, GTSRB_Final_Test_Images.zip and GTSRB_Final_Test_GT.zip"

    def list_part(self, part: Part) -> list[Listed]:
        """Read the tables of the class folders, or the table of the test images."""
        if part == "test":
            folder = self.file("GTSRB/Final_Test/Images")
            name = "GT-final_test.csv"
            return self._read(self.file(name, f"GTSRB/{name}", f"GTSRB/Final_Test/Images/{name}"), folder)
        root = self.file("GTSRB/Training", "GTSRB/Final_Training/Images")
        listed = []
        for number, images in class_folders(root).items():
            folder = root / number
            label = self.numbered(number, 0, str(folder))
            table = folder / f"GT-{number}.csv"
            if not table.exists():
                listed += [Listed(f"{folder}/{name}", label, str(folder)) for name in images]
                continue
            # torchvision's order; the split into train and val depends on it.
            rows = sorted(self._read(table, folder), key=lambda image: image.path)
            for image in rows:
                if image.label != label:
                    raise ValueError(f"{image.where}: class {image.label} in the folder of class {label}")
            listed += rows
        return listed

    def _read(self, path: Path, images: Path) -> list[Listed]:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter=";", skipinitialspace=True)
            lacks = {"Filename", "ClassId"} - set(reader.fieldnames or ())
            if lacks:
                raise ValueError(f"{path} has no column {sorted(lacks)[0]}; expected Filename;Width;...;ClassId")
            listed = []
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                listed.append(Listed(f"{images}/{row['Filename']}", self.numbered(row["ClassId"], 0, where), where))
            return listed
