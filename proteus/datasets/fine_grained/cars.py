"""Stanford Cars data set."""

from __future__ import annotations

from proteus.datasets.fine_grained.base import FineGrainedSet, Part
from proteus.datasets.fine_grained.listing import Listed, read_mat
from proteus.registry import DATASETS


@DATASETS.register_module()
class StanfordCars(FineGrainedSet):
    """Stanford Cars (Krause et al., 2013).

    Args:
        **fine_grained: As for :class:`FineGrainedSet`.
    """

    title = "Stanford Cars"
    num_classes = 196
    sizes = (8144, None, 8041)
    folder = "stanford_cars"
    nested = ("stanford_cars",)
    markers = ("devkit/cars_train_annos.mat", "cars_train_annos.mat", "cars_test_annos_withlabels.mat")
    layout = """
devkit/cars_train_annos.mat
cars_test_annos_withlabels.mat (here or in devkit)
cars_train/00001.jpg ...
cars_test/00001.jpg ..."""
    source = "car_devkit.tgz, cars_train.tgz, cars_test.tgz and cars_test_annos_withlabels.mat"

    def list_part(self, part: Part) -> list[Listed]:
        """Read the annotations of the devkit; their classes count from 1."""
        name = f"cars_{part}_annos{'' if part == 'train' else '_withlabels'}.mat"
        path = self.file(*((f"devkit/{name}", name) if part == "train" else (name, f"devkit/{name}")))
        (annotations,) = read_mat(path, ["annotations"])
        if not {"class", "fname"} <= set(annotations.dtype.names or ()):
            raise ValueError(f"{path}: annotations lacks class or fname; the labels of the test set are only in {name}")
        listed = []
        for number, (image, label) in enumerate(zip(annotations["fname"], annotations["class"], strict=True), 1):
            where = f"{path}, annotation {number}"
            listed.append(Listed(f"{self.home}/cars_{part}/{image}", self.numbered(label, 1, where), where))
        return listed
