from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from proteus.utils.pictures import PictureNames, add_ending, picture_names, save_picture


@pytest.mark.parametrize("ending", ["png", "jpg", "JPG"])
def test_a_picture_appears_whole(ending: str, tmp_path: Path) -> None:
    for number, picture in enumerate((Image.new("RGB", (8, 8)), Figure())):
        path = save_picture(picture, tmp_path / f"new/{number}.{ending}")
        assert Image.open(path).format == ("PNG" if ending == "png" else "JPEG")
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_the_old_picture_stays_when_saving_fails(tmp_path: Path) -> None:
    path = save_picture(Image.new("RGB", (8, 8), "red"), tmp_path / "a.jpg")
    old = path.read_bytes()
    with pytest.raises(OSError, match="cannot write mode RGBA"):
        save_picture(Image.new("RGBA", (8, 8)), path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def named(images: list[str], root: str | None = None) -> list[str]:
    return [str(add_ending(Path(), name, ".png")) for name in picture_names(images, root).values()]


def test_pictures_lie_as_the_images_do() -> None:
    assert named(["/d/a/x.jpg", "/d/b/x.jpg"]) == ["a/x.png", "b/x.png"]
    assert named(["/d/a/x.jpg"]) == ["x.png"]
    assert named(["/d/a/x.v2.jpg", "/e/x.jpg"], "/d") == ["a/x.v2.png", "e/x.png"]


def test_endings_are_kept_where_names_would_be_equal() -> None:
    assert named(["/d/x.jpg", "/d/x.bmp", "/d/y.jpg"]) == ["x.jpg.png", "x.bmp.png", "y.png"]
    assert named(["/d/x.jpg", "/d/x.bmp", "/d/x.jpg.png"]) == ["x.jpg.png", "x.bmp.png", "x.jpg.png.png"]


def test_one_image_that_is_listed_twice_has_one_picture() -> None:
    assert named(["/d/x.jpg", "/d/x.jpg"]) == ["x.png"]


def test_images_that_no_data_set_lists_have_different_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    names = PictureNames([0, 1])
    assert [str(names[image]) for image in ("/d/x.jpg", "/e/x.jpg", "/d/x.jpg")] == ["x", "e/x.jpg", "x"]
    # Several processes cannot know which names are free.
    monkeypatch.setattr("proteus.utils.pictures.get_world_size", lambda: 2)
    assert str(PictureNames([0, 1])["/d/x.jpg"]) == "d/x.jpg"
