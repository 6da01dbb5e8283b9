import pickle
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import run_code

from proteus.datasets import CorruptImageError, LoadImage, LoadRandomResizedCrop, RandomResizedCrop, seeded
from proteus.datasets.packaged import packaged_photographs
from proteus.datasets.transforms import jpeg, load_crop

pytestmark = pytest.mark.skipif(jpeg.simplejpeg is None, reason="needs simplejpeg: pip install simplejpeg")


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return Image.open(packaged_photographs("held-out")[0]).convert("RGB").resize((1500, 1125), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def fast(content: bytes, number: int, **options) -> np.ndarray:
    transform = LoadRandomResizedCrop(**{"scale": 112, **options})
    with seeded(number):
        results = transform({"img_path": "0.tar/a.jpg", "img_bytes": content})
    assert set(results) == {"img_path", "img"}
    return results["img"]


def slow(content: bytes, number: int, size: int = 112) -> np.ndarray:
    with seeded(number):
        return np.array(RandomResizedCrop(size)(LoadImage()({"img_path": "a", "img_bytes": content}))["img"])


def apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one.astype(int) - other)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_full_size_jpegs_match_the_two_transforms(photograph: Image.Image, subsampling: int) -> None:
    content = encoded(photograph.resize((250, 188)), quality=90, subsampling=subsampling)
    for number in range(20):
        difference = apart(fast(content, number, scale=224), slow(content, number, size=224))
        assert difference.mean() < 0.4
        assert difference.max() <= 12


def test_large_jpegs_are_decoded_at_a_reduced_size(photograph: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, decode = [], jpeg.decode

    def watched(content: bytes, height: int, width: int, by: int) -> np.ndarray | None:
        pixels = decode(content, height, width, by)
        asked.append((by, pixels.shape))
        return pixels

    monkeypatch.setattr(jpeg, "decode", watched)
    content = encoded(photograph, quality=92)
    differences = [apart(fast(content, number), slow(content, number)).mean() for number in range(40)]
    assert np.mean(differences) < 2
    assert max(differences) < 6
    assert {by for by, _ in asked} == {2, 4, 8}
    assert {shape for by, shape in asked if by == 8} == {(141, 188, 3)}


@pytest.mark.parametrize("by", [1, 2, 4, 8])
def test_pixels_without_simplejpeg_are_equal(photograph: Image.Image, by: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both use libjpeg-turbo or a compatible libjpeg."""
    for width, height in ((1500, 1125), (1001, 777)):
        content = encoded(photograph.resize((width, height)), quality=91)
        with monkeypatch.context() as patch:
            found = load_crop._File("a", content).decoded(by)
            patch.setattr(jpeg, "simplejpeg", None)
            by_pil = load_crop._File("a", content).decoded(by)
        assert found.shape == by_pil.shape == (-(-height // by), -(-width // by), 3)
        assert apart(found, by_pil).mean() < 0.01


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "JPEG"), ("CMYK", "JPEG"), ("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("RGB", "WEBP"), ("1", "BMP")],
)
def test_other_formats_match_pil(photograph: Image.Image, mode: str, kind: str) -> None:
    content = encoded(photograph.resize((96, 80)).convert(mode), kind)
    assert apart(fast(content, 5), slow(content, 5)).mean() < 0.4


def test_progressive_and_rotated_jpegs(photograph: Image.Image) -> None:
    """Includes an EXIF orientation, which decoders do not apply."""
    exif = Image.Exif()
    exif[0x0112] = 6
    small = photograph.resize((200, 120))
    for options in ({"progressive": True}, {"exif": exif}, {"restart_marker_rows": 1}):
        content = encoded(small, quality=90, **options)
        assert apart(fast(content, 5), slow(content, 5)).mean() < 0.4


@pytest.mark.parametrize("cut", [100, 3000, -400, -3])
def test_damage_is_reported_as_by_load_image(photograph: Image.Image, cut: int) -> None:
    content = encoded(photograph.resize((200, 120)), quality=90)[:cut]
    with pytest.raises(CorruptImageError, match=r"^0\.tar/a\.jpg \(") as found:
        fast(content, 1)
    with pytest.raises(CorruptImageError) as wanted:
        LoadImage()({"img_path": "0.tar/a.jpg", "img_bytes": content})
    assert str(found.value) == str(wanted.value)


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"\xff\xd8\xff"])
def test_files_that_are_not_images(content: bytes) -> None:
    with pytest.raises(CorruptImageError, match=r"^0\.tar/a\.jpg \("):
        fast(content, 1)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptImageError, match=r"gone\.jpg \(FileNotFoundError"):
        LoadRandomResizedCrop(8)({"img_path": str(tmp_path / "gone.jpg")})


def test_implausibly_large_images_are_refused(photograph: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(CorruptImageError, match="DecompressionBombError"):
        fast(encoded(photograph.resize((60, 50))), 1)


def test_caching_saves_decoding_and_changes_nothing_else(
    photograph: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, side in enumerate((1500, 240)):
        photograph.resize((side, side)).save(tmp_path / f"{number}.jpg", quality=90)
    decoded, decode = [], jpeg.decode
    monkeypatch.setattr(jpeg, "decode", lambda *given: decoded.append(given[3]) or decode(*given))
    loads = [LoadRandomResizedCrop(112, cache_last=remember) for remember in (False, True)]
    counts, views = [], []
    for load in loads:
        decoded.clear()
        found = []
        for path in ("0.jpg", "1.jpg", "0.jpg"):
            for view in range(6):
                with seeded(view):
                    found.append(load({"img_path": str(tmp_path / path)})["img"])
        counts.append(len(decoded))
        views.append(found)
    assert all(map(np.array_equal, *views))
    assert len({view.tobytes() for view in views[1][:6]}) == 6
    assert counts[0] == 18
    assert counts[1] <= 4 + 2 + 4  # once for each reduction
    assert len(pickle.dumps(loads[1])) < 10_000  # pixels are not pickled


def test_full_size_images_are_decoded_once_for_three_views(
    photograph: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, decode = [], jpeg.decode
    monkeypatch.setattr(jpeg, "decode", lambda *given: decoded.append(given[3]) or decode(*given))
    load, content = LoadRandomResizedCrop(112, cache_last=True), encoded(photograph.resize((200, 120)))
    for view in range(3):
        with seeded(view):
            load({"img_path": "a", "img_bytes": content})
    assert decoded == [1]


@pytest.mark.slow
def test_missing_simplejpeg_is_logged_once() -> None:
    code = (
        "import importlib, sys; sys.modules['simplejpeg'] = None\n"
        "from proteus.datasets.transforms import jpeg\n"
        "importlib.reload(jpeg)\n"
        "from proteus.datasets import LoadRandomResizedCrop\n"
        "[LoadRandomResizedCrop(8) for _ in range(3)]"
    )
    done = run_code(code)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("pip install simplejpeg") == 1


def test_unknown_interpolations_are_refused() -> None:
    with pytest.raises(ValueError, match=r"LoadRandomResizedCrop\.interpolation='cubic'"):
        LoadRandomResizedCrop(8, interpolation="cubic")
