"""Class names."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from proteus.datasets import LabelledFolder
from proteus.datasets import fine_grained as sets
from proteus.evaluation.text.class_names import class_names
from proteus.structures import DataError


def put(folder: Path, names: list[str]) -> None:
    content = BytesIO()
    Image.new("RGB", (8, 8)).save(content, "JPEG")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.getvalue())


def put_text(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def test_names_from_the_files_of_a_set(tmp_path: Path) -> None:
    aircraft = [f"A{i}_x" for i in range(100)]
    put_text(tmp_path / "air/data/variants.txt", aircraft)
    put(tmp_path / "air/data/images", ["1.jpg"])
    put_text(tmp_path / "air/data/images_variant_test.txt", ["1 A3_x"])
    found = class_names(sets.FGVCAircraft(str(tmp_path / "air"), "test"), "aircraft")
    assert found == [name.replace("_", " ") for name in aircraft]

    breeds = ["Abyssinian", "great_pyrenees", *(f"breed_{i}" for i in range(35))]
    # Not in the order of the labels, and incomplete in each file.
    rows = [f"{name}_12 {number} 1 1" for number, name in reversed(list(enumerate(breeds, 1)))]
    put_text(tmp_path / "pets/annotations/test.txt", rows[:20])
    put_text(tmp_path / "pets/annotations/trainval.txt", rows[15:])
    put(tmp_path / "pets/images", [f"{name}_12.jpg" for name in breeds])
    found = class_names(sets.OxfordIIITPet(str(tmp_path / "pets"), "test"), "pets")
    assert found[:3] == ["Abyssinian", "great pyrenees", "breed 0"]

    birds = [f"{i} {i:03}.Black_footed_Bird{i}" for i in range(1, 201)]
    put_text(tmp_path / "cub/classes.txt", birds)
    put_text(tmp_path / "cub/images.txt", ["1 a/b.jpg"])
    put_text(tmp_path / "cub/image_class_labels.txt", ["1 7"])
    put_text(tmp_path / "cub/train_test_split.txt", ["1 0"])
    put(tmp_path / "cub/images", ["a/b.jpg"])
    assert class_names(sets.CUB(str(tmp_path / "cub"), "test"), "cub")[6] == "Black footed Bird7"

    scenes = ["/a/abbey", "/a/apse/indoor", *(f"/b/b{i}" for i in range(395))]
    put_text(tmp_path / "sun/ClassName.txt", scenes)
    put_text(tmp_path / "sun/Testing_01.txt", ["/a/abbey/1.jpg"])
    put(tmp_path / "sun", ["a/abbey/1.jpg"])
    assert class_names(sets.SUN397(str(tmp_path / "sun"), "test"), "sun397")[:3] == ["abbey", "indoor apse", "b0"]

    savemat(tmp_path / "names.mat", {"class_names": np.array([f"Car {i}" for i in range(196)], dtype=object)})
    annotations = np.array([("1.jpg", 5)], dtype=[("fname", object), ("class", int)])
    (tmp_path / "cars/devkit").mkdir(parents=True)
    savemat(tmp_path / "cars/cars_test_annos_withlabels.mat", {"annotations": annotations})
    put(tmp_path / "cars", ["cars_test/1.jpg"])
    cars = sets.StanfordCars(str(tmp_path / "cars"), "test")
    with pytest.raises(FileNotFoundError, match=r"cars_meta.mat is missing"):
        class_names(cars, "cars")
    (tmp_path / "names.mat").rename(tmp_path / "cars/devkit/cars_meta.mat")
    assert class_names(cars, "cars")[4] == "Car 4"


def test_countries(tmp_path: Path) -> None:
    from importlib import resources

    table = resources.files("tzdata").joinpath("zoneinfo/iso3166.tab").read_text(encoding="utf-8")
    codes = sorted(line.split("\t")[0] for line in table.splitlines() if line and not line.startswith("#"))[:210]
    put(tmp_path, [f"{part}/{code}/1.jpg" for part in ("train", "valid", "test") for code in (*codes, "XK")])
    found = class_names(sets.Country211(str(tmp_path), "test"), "country211")
    assert found[sorted([*codes, "XK"]).index("AD")] == "Andorra"
    assert "Kosovo" in found
    assert len(found) == 211


def test_packaged_lists(tmp_path: Path) -> None:
    """CIFAR-10, CIFAR-100 and VOC are in alphabetical order; GTSRB has the official names."""
    lists = Path(sets.__file__).parents[2] / "evaluation/text/names"
    found = {file.stem: file.read_text().splitlines() for file in lists.glob("*.txt")}
    counts = {"cifar10": 10, "cifar100": 100, "gtsrb": 43, "voc2007": 20}
    assert {name: len(set(names)) for name, names in found.items()} == counts
    for name in ("cifar10", "cifar100"):
        assert found[name] == sorted(found[name])
    from proteus.datasets.fine_grained.voc2007 import CLASSES

    assert [a[0] for a in found["voc2007"]] == [a[0] for a in CLASSES]
    assert found["gtsrb"][14] == "stop"
    assert found["gtsrb"][40] == "roundabout"


def test_imagenet_without_open_clip_names_both_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, ["train/n01440764/1.jpg", "val/n01440764/1.jpg"])
    dataset = sets.ImageNet1K(str(tmp_path), "test")
    put_text(tmp_path / "lists/imagenet.txt", [f"class {number}" for number in range(1000)])
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(DataError, match=r"pip install 'proteus-toolbox\[text\]'\), or write imagenet\.txt and pass"):
        class_names(dataset, "imagenet")
    assert class_names(dataset, "imagenet", tmp_path / "lists")[999] == "class 999"


def test_folders_and_lists_of_the_user(tmp_path: Path) -> None:
    put(tmp_path / "own", ["red_house/1.jpg", "a dog/1.jpg"])
    folder = LabelledFolder(data_root=str(tmp_path / "own"), index_cache=False)
    assert class_names(folder, "own") == ["a dog", "red house"]
    put(tmp_path / "parts", ["train/b_b/1.jpg", "train/a/1.jpg", "test/b_b/1.jpg"])
    assert class_names(sets.ClassFolders(str(tmp_path / "parts"), "test"), "parts") == ["a", "b b"]
    put_text(tmp_path / "lists/own.txt", ["hound", "", "cottage"])
    assert class_names(folder, "own", tmp_path / "lists") == ["hound", "cottage"]
    put_text(tmp_path / "lists/own.txt", ["hound"])
    with pytest.raises(DataError, match=r"own: .*own.txt has 1 names, but the set has 2 classes"):
        class_names(folder, "own", tmp_path / "lists")
    with pytest.raises(DataError, match=r"write x\.txt, one name per line .* with protocol\.names$"):
        class_names(object(), "x")
