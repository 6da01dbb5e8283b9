from pathlib import Path

import pytest
from PIL import Image

from proteus.datasets import CorruptImageError, LoadImage


@pytest.mark.parametrize("short_side", [None, 50])
@pytest.mark.parametrize("name", ["image.jpg", "image.png"])
def test_bytes_are_decoded_like_files(tmp_path: Path, name: str, short_side: int | None) -> None:
    path = tmp_path / name
    Image.effect_noise((300, 200), 50).convert("RGB").save(path)
    load = LoadImage(short_side=short_side)
    wanted = load({"img_path": str(path)})["img"]
    found = load({"img_path": "nowhere", "img_bytes": path.read_bytes()})
    assert found["img"].tobytes() == wanted.tobytes()
    assert set(found) == {"img_path", "img"}  # the content of the file is removed


def test_truncated_bytes_are_named_by_their_path(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    Image.effect_noise((300, 200), 50).convert("RGB").save(path)
    for content, reason in {path.read_bytes()[:3000]: "runcated", b"": "not an image file"}.items():
        with pytest.raises(CorruptImageError, match=rf"^0\.tar/a\.jpg \(.*{reason}"):
            LoadImage()({"img_path": "0.tar/a.jpg", "img_bytes": content})
