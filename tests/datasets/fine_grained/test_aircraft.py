from pathlib import Path

import pytest
from torchvision.datasets import FGVCAircraft as TorchvisionFGVCAircraft

from proteus.datasets import FGVCAircraft


@pytest.fixture
def home(tmp_path: Path, put_images, put_texts):
    home = tmp_path / "fgvc-aircraft-2013b"
    put_texts(
        home / "data",
        {
            "variants.txt": "707-320\nA300B4\nBoeing 717 X\n",
            "images_variant_train.txt": "0034309 A300B4\n1025794 707-320\n0000002 Boeing 717 X\n",
            "images_variant_val.txt": "0000003 707-320\n",
            "images_variant_trainval.txt": "0034309 A300B4\n1025794 707-320\n0000002 Boeing 717 X\n0000003 707-320\n",
            "images_variant_test.txt": "0000004 Boeing 717 X\n0000005 A300B4\n",
        },
    )
    names = ("0034309", "1025794", "0000002", "0000003", "0000004", "0000005")
    put_images(home / "data/images", [f"{name}.jpg" for name in names])
    return home


@pytest.mark.parametrize("split", ["train", "val", "trainval", "test"])
def test_items_match_torchvision(home: Path, split, items, torchvision_items) -> None:
    other = TorchvisionFGVCAircraft(str(home.parent), split=split)
    assert items(FGVCAircraft(str(home), split)) == torchvision_items(other, home)


def test_official_validation_split(home: Path) -> None:
    assert FGVCAircraft(str(home), "trainval").in_val().tolist() == [False, False, False, True]
    assert FGVCAircraft(str(home), "val").in_val().tolist() == [True]


def test_unknown_variants_are_refused_with_their_line(home: Path) -> None:
    (home / "data/images_variant_test.txt").write_text("0000004 Boeing 717 X\n\n0000005 A300-B4\n")
    with pytest.raises(
        ValueError, match=r"variant_test\.txt, line 3: unknown class 'A300-B4'; FGVC-Aircraft has 3 classes"
    ):
        FGVCAircraft(str(home), "test")
    assert len(FGVCAircraft(str(home), "train")) == 3


def test_truncated_lines_are_refused(home: Path) -> None:
    (home / "data/images_variant_test.txt").write_text("0000004\n")
    with pytest.raises(ValueError, match=r"images_variant_test\.txt, line 1: '0000004' has 1 columns, expected 2"):
        FGVCAircraft(str(home), "test")


def test_repeated_classes_are_refused(home: Path) -> None:
    (home / "data/variants.txt").write_text("707-320\nA300B4\n707-320\n")
    with pytest.raises(ValueError, match=r"variants\.txt has 3 classes, 2 of them different"):
        FGVCAircraft(str(home), "test")
