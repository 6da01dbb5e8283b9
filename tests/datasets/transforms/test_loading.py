from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proteus.datasets import CorruptImageError, LoadImage


def load(path: Path, **options) -> Image.Image:
    return LoadImage(**options)({"img_path": str(path)})["img"]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_all_modes_become_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    image = Image.new("I;16", (6, 4)) if mode == "I;16" else Image.new("RGB", (6, 4), "red").convert(mode)
    image.save(path)
    found = load(path)
    assert (found.mode, found.size) == ("RGB", (6, 4))


def test_large_images_are_reduced(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    ramp = np.linspace(0, 255, 1600, dtype=np.uint8)[None].repeat(1200, 0)
    Image.fromarray(np.stack([ramp] * 3, 2)).save(path, quality=95)
    assert load(path).size == (1600, 1200)
    small = load(path, short_side=300)
    assert small.size == (400, 300)
    shrunk = np.asarray(load(path).resize((400, 300), Image.Resampling.BOX), dtype=float)
    assert np.abs(np.asarray(small) - shrunk).mean() < 2
    assert load(path, short_side=333).size == (444, 333)
    assert load(path, short_side=5000).size == (1600, 1200)


def test_cached_images_are_read_once_and_never_changed(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.new("RGB", (6, 4), "red").save(path)
    loader = LoadImage(cache_in_memory=True)
    results = {"img_path": str(path)}
    loader(dict(results))["img"].paste("blue", (0, 0, 6, 4))
    path.unlink()
    for _ in range(2):
        image = loader(dict(results))["img"]
        assert image.getpixel((0, 0)) == (255, 0, 0)
        image.paste("blue", (0, 0, 6, 4))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((200, 200), 50).convert("RGB").save(whole)
    broken = {
        "cut.jpg": whole.read_bytes()[:2000],
        "empty.png": b"",
        "page.jpg": b"<html></html>",
        "head.png": b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    for name in [*broken, "missing.jpg"]:
        with pytest.raises(CorruptImageError, match=name):
            load(tmp_path / name)
