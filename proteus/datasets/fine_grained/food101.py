"""Food-101 data set."""

from __future__ import annotations

import json
from pathlib import Path

from proteus.datasets.fine_grained.base import FineGrainedSet, Part
from proteus.datasets.fine_grained.listing import Listed, Row, read_rows
from proteus.registry import DATASETS


@DATASETS.register_module()
class Food101(FineGrainedSet):
    """Food-101 (Bossard et al., 2014).

    The archive lists each split twice, in different orders. The order decides which fifth of the training images is
    used for validation. As in the released code, ``.json`` is read; ``.txt`` is read only if ``.json`` is missing.

    Args:
        **fine_grained: As for :class:`FineGrainedSet`.
    """

    title = "Food-101"
    num_classes = 101
    sizes = (75_750, None, 25_250)
    folder = "food-101"
    nested = ("food-101",)
    markers = ("meta/classes.txt",)
    layout = """
meta/classes.txt
meta/train.json, test.json (or train.txt, test.txt)
images/apple_pie/1005649.jpg ... (101 folders)"""
    source = "food-101.tar.gz"

    def list_part(self, part: Part) -> list[Listed]:
        """Read ``meta/<part>``; each entry has a class and an image number."""
        path = self.file("meta/classes.txt")
        classes = self.classes_of([row.fields[0] for row in read_rows(path, 1)], path)
        path = self.file(f"meta/{part}.json", f"meta/{part}.txt")
        return [
            Listed(f"{self.home}/images/{name}.jpg", self.named(name.partition("/")[0], classes, where), where)
            for where, (name,) in (_read_json(path) if path.suffix == ".json" else read_rows(path, 1))
        ]


def _read_json(path: Path) -> list[Row]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [Row(f"{path}, {name}", [str(image)]) for name, images in content.items() for image in images]
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} does not list images by class ({error})") from error
