from pathlib import Path

import pytest
import torchvision.datasets

from proteus.datasets import SUN397

IMAGES = ["/a/abbey/sun_aa.jpg", "/w/waterfall/fan/sun_bb.jpg", "/a/airplane_cabin/sun_cc.jpg"]


@pytest.fixture
def home(tmp_path: Path, put_images, put_texts):
    home = tmp_path / "SUN397"
    put_texts(
        home,
        {
            "ClassName.txt": "/a/abbey\n/a/airplane_cabin\n/w/waterfall/fan\n",
            "Training_01.txt": "".join(f"{name}\r\n" for name in IMAGES[:2]),
            "Testing_01.txt": f"{IMAGES[2]}\n",
        },
    )
    put_images(home, [name[1:] for name in IMAGES])
    return home


def test_labels_match_torchvision(home: Path, items, torchvision_items) -> None:
    other = dict(torchvision_items(torchvision.datasets.SUN397(str(home.parent)), home))
    train, test = items(SUN397(str(home), "trainval")), items(SUN397(str(home), "test"))
    assert [path for path, _ in train + test] == [name[1:] for name in IMAGES]
    assert dict(train + test) == other


def test_lists_may_be_in_a_separate_folder(home: Path, items) -> None:
    before = items(SUN397(str(home), "test"))
    (home / "Partitions").mkdir()
    for name in ("ClassName.txt", "Training_01.txt", "Testing_01.txt"):
        (home / name).rename(home / "Partitions" / name)
    assert items(SUN397(str(home.parent), "test")) == before


def test_unknown_classes_are_refused(home: Path) -> None:
    (home / "Testing_01.txt").write_text("/a/airplane/sun_cc.jpg\n")
    with pytest.raises(ValueError, match=r"Testing_01\.txt, line 1: unknown class '/a/airplane'; SUN397 has 3 classes"):
        SUN397(str(home), "test")
