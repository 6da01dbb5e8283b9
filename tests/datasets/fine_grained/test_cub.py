from pathlib import Path

import pytest

from proteus.datasets import CUB

NAMES = [
    "001.Black_Albatross/A_0046_18.jpg",
    "001.Black_Albatross/A_0009_34.jpg",
    "200.Yellowthroat/Y_1.jpg",
]


@pytest.fixture
def home(tmp_path: Path, put_images, put_texts):
    home = tmp_path / "CUB_200_2011"
    put_texts(
        home,
        {
            "images.txt": "".join(f"{number} {name}\n" for number, name in enumerate(NAMES, 1)),
            "image_class_labels.txt": "1 1\n2 1\n3 200\n",
            "train_test_split.txt": "1 0\n2 1\n3 1\n",
            "classes.txt": "1 001.Black_Albatross\n200 200.Yellowthroat\n",
        },
    )
    put_images(home / "images", NAMES)
    return home


def test_lists_are_joined_by_image_number(home: Path, put_texts, items) -> None:
    train, test = [(f"images/{NAMES[1]}", 0), (f"images/{NAMES[2]}", 199)], [(f"images/{NAMES[0]}", 0)]
    assert (items(CUB(str(home), "trainval")), items(CUB(str(home), "test"))) == (train, test)
    put_texts(home, {"image_class_labels.txt": "3 200\n1 1\n2 1\n", "train_test_split.txt": "2 1\n3 1\n1 0\n"})
    assert (items(CUB(str(home), "trainval")), items(CUB(str(home), "test"))) == (train, test)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        (
            "image_class_labels.txt",
            "1 1\n2 201\n3 200\n",
            r"class_labels\.txt, line 2: class 201 is out of range",
        ),
        (
            "image_class_labels.txt",
            "1 1\n2 1\n",
            r"line 3: image 3 is not in image_class_labels\.txt",
        ),
        ("train_test_split.txt", "1 0\n2 1\n", r"images\.txt, line 3: image 3 is not in train_test_split\.txt"),
        ("images.txt", "1 a.jpg\n2 ../../a.jpg\n3 b.jpg\n", r"images\.txt, line 2: .* is not below .*CUB_200_2011"),
        ("train_test_split.txt", "1 0\n2 2\n3 1\n", r"train_test_split\.txt, line 2: '2' is neither 0 .* nor 1"),
    ],
)
def test_bad_lists_are_refused(home: Path, put_texts, name, text, match) -> None:
    put_texts(home, {name: text})
    with pytest.raises(ValueError, match=match):
        CUB(str(home), "train")
