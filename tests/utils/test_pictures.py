from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from proteus.utils.pictures import save_picture


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
