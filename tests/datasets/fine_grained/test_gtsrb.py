from pathlib import Path

import pytest
import torchvision.datasets

from proteus.datasets import GTSRB

HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"


def table(rows) -> str:
    return HEADER + "".join(f"{name};29;30;5;6;24;25;{label}\n" for name, label in rows)


@pytest.fixture
def home(tmp_path: Path, put_images, put_texts):
    home = tmp_path / "gtsrb"
    train = {"00000": ("00002_00000.ppm", "00000_00001.ppm", "00000_00000.ppm"), "00001": ("00000_00000.ppm",)}
    for folder, names in train.items():
        root = home / f"GTSRB/Training/{folder}"
        put_images(root, names)
        put_texts(root, {f"GT-{folder}.csv": table((name, int(folder)) for name in names)})
    put_images(home / "GTSRB/Final_Test/Images", ["00000.ppm", "00001.ppm"])
    put_texts(home, {"GT-final_test.csv": table([("00001.ppm", 16), ("00000.ppm", 1)])})
    return home


@pytest.mark.parametrize(("split", "other"), [("trainval", "train"), ("test", "test")])
def test_items_match_torchvision(home: Path, split, other, items, torchvision_items) -> None:
    images = torchvision.datasets.GTSRB(str(home.parent), split=other)
    assert items(GTSRB(str(home), split)) == torchvision_items(images, home)


def test_folders_without_tables_and_the_final_archive(home: Path, items) -> None:
    whole = items(GTSRB(str(home), "trainval"))
    (home / "GTSRB/Training/00000/GT-00000.csv").unlink()
    assert items(GTSRB(str(home), "trainval")) == whole
    (home / "GTSRB/Final_Training").mkdir()
    (home / "GTSRB/Training").rename(home / "GTSRB/Final_Training/Images")
    assert [label for _, label in items(GTSRB(str(home), "trainval"))] == [0, 0, 0, 1]


def test_set_unpacked_among_other_sets(home: Path, items) -> None:
    assert GTSRB.find(home) == home
    assert GTSRB.find(home.parent) == home
    assert GTSRB.find(home.parent / "elsewhere") is None


def test_tables_without_or_with_wrong_classes_are_refused(home: Path, put_texts) -> None:
    unlabelled = HEADER.replace(";ClassId", "") + "00000.ppm;53;54;6;5;48;49\n"
    put_texts(home, {"GT-final_test.csv": unlabelled})
    with pytest.raises(ValueError, match=r"GT-final_test\.csv has no column ClassId"):
        GTSRB(str(home), "test")
    put_texts(home, {"GT-final_test.csv": table([("00000.ppm", 42), ("00001.ppm", 43)])})
    with pytest.raises(ValueError, match=r"GT-final_test\.csv, line 3: class 43 is out of range, GTSRB has 0 to 42"):
        GTSRB(str(home), "test")
    put_texts(home, {"GTSRB/Training/00001/GT-00001.csv": table([("00000_00000.ppm", 41)])})
    with pytest.raises(ValueError, match=r"GT-00001\.csv, line 2: class 41 in the folder of class 1"):
        GTSRB(str(home), "train")
    (home / "GTSRB/Training/00001").rename(home / "GTSRB/Training/00043")
    with pytest.raises(ValueError, match=r"Training/00043: class 00043 is out of range"):
        GTSRB(str(home), "train")
