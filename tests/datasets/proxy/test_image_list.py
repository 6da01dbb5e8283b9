import pickle

import pytest

from proteus.datasets.proxy.image_list import ImageList

NAMES = ["a/1.png", "b c/ä.jpg", b"latin-\xe9.png".decode(errors="surrogateescape"), "new\nline.png"]


def test_every_name_comes_back() -> None:
    images = ImageList.of("/images/", NAMES)
    assert images.names() == NAMES
    assert [images[i] for i in range(4)] == list(images) == [{"img_path": f"/images/{name}"} for name in NAMES]
    assert images[-1] == images[3]
    assert pickle.loads(pickle.dumps(images))[2] == images[2]
    for index in (4, -5):
        with pytest.raises(IndexError, match=f"there are 4 images, and none at {index}"):
            images[index]


def test_parts_of_parts() -> None:
    part = ImageList.of("r/", NAMES).labelled([5, 6, 7, 8]).take([3, 1, 0])
    assert [info["label"] for info in part] == [8, 6, 5]
    assert part[1] == {"img_path": "r/b c/ä.jpg", "label": 6}
    again = part[1:].take([1])
    assert list(again) == [{"img_path": "r/a/1.png", "label": 5}]
    assert again.names() == ["a/1.png"]
    assert [info["label"] for info in part.labelled([1, 2, 3])] == [1, 2, 3]


def test_none() -> None:
    nothing = ImageList.of("r/", [])
    assert len(nothing) == 0
    assert list(nothing) == nothing.names() == []
    assert len(ImageList.of("r/", NAMES).take([])) == 0
