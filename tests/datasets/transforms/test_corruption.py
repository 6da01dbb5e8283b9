from hashlib import sha1
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import run_code
from torchvision.transforms import v2

from proteus.datasets.packaged import packaged_photographs
from proteus.datasets.transforms import corruption as corruption_module
from proteus.datasets.transforms.corruption import CORRUPTIONS, Corrupt, corrupt, encode, image_name

pytest.importorskip("imagecorruptions")
# Corruptions with constants that grow enough to outweigh randomness. glass_blur shuffles more often at severity 3 than
# at 4, frost uses one of six pictures, and fog and snow draw a random field.
STEADY = sorted({*CORRUPTIONS} - {"glass_blur", "frost", "fog", "snow"})
DIGEST = """
from hashlib import sha1
from PIL import Image
from proteus.datasets.transforms.corruption import CORRUPTIONS, corrupt
image = Image.open({path!r}).convert("RGB")
print(sha1(b"".join(corrupt(image, name, 3, "n01440764/x.JPEG").tobytes() for name in CORRUPTIONS)).hexdigest())
"""


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    prepare = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])
    return [prepare(Image.open(path).convert("RGB")) for path in packaged_photographs("held-out")[:30:10]]


def psnr(image: Image.Image, other: Image.Image) -> float:
    difference = np.asarray(image, dtype=float) - np.asarray(other, dtype=float)
    return 10 * float(np.log10(255**2 / np.mean(difference**2)))


def mean_psnr(photographs: list[Image.Image], corruption: str, severity: int) -> float:
    return float(np.mean([psnr(p, corrupt(p, corruption, severity, f"n/{i}")) for i, p in enumerate(photographs)]))


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_images_get_worse_with_severity(photographs: list[Image.Image], corruption: str) -> None:
    quality = [mean_psnr(photographs, corruption, severity) for severity in range(1, 6)]
    assert quality[4] < quality[0] - 0.5
    if corruption in STEADY:
        assert quality == sorted(quality, reverse=True)
    assert quality[4] > 3
    assert quality[0] < 40


def test_strength_of_noise_matches_the_paper() -> None:
    grey = Image.new("RGB", (224, 224), (128, 128, 128))
    for severity, scale in enumerate((0.08, 0.12, 0.18), 1):
        pixels = np.asarray(corrupt(grey, "gaussian_noise", severity, "n/x"), dtype=float) / 255
        assert pixels.std() == pytest.approx(scale, rel=0.03)
    pixels = np.asarray(corrupt(grey, "impulse_noise", 5, "n/x"))
    assert np.isin(pixels, (0, 255)).mean() == pytest.approx(0.27, rel=0.03)


def test_outputs_depend_only_on_name_corruption_and_severity(photographs: list[Image.Image]) -> None:
    for corruption in ("impulse_noise", "glass_blur", "frost", "motion_blur"):
        first = corrupt(photographs[0], corruption, 2, "n/a").tobytes()
        np.random.seed(5)
        state = np.random.get_state()[1].copy()
        assert corrupt(photographs[0], corruption, 2, "n/a").tobytes() == first
        assert (np.random.get_state()[1] == state).all()
        assert corrupt(photographs[0], corruption, 2, "n/b").tobytes() != first
    # The noise differs between severities: one is not a multiple of the other.
    one, two = (np.asarray(corrupt(photographs[0], "gaussian_noise", s, "n/a"), dtype=float) for s in (1, 2))
    clean = np.asarray(photographs[0], dtype=float)
    assert abs(np.corrcoef((one - clean).ravel(), (two - clean).ravel())[0, 1]) < 0.1


@pytest.mark.slow
def test_processes_give_equal_outputs(photographs: list[Image.Image], tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    photographs[1].save(path)
    here = sha1(
        b"".join(corrupt(photographs[1], name, 3, "n01440764/x.JPEG").tobytes() for name in CORRUPTIONS)
    ).hexdigest()
    assert run_code(DIGEST.format(path=str(path))).stdout.strip() == here


def test_the_transform_compresses_as_the_released_code(photographs: list[Image.Image]) -> None:
    entry = {"img_path": "/some/where/n01440764/x.JPEG", "corruption": "pixelate", "severity": 4}
    given = Corrupt()({**entry, "img": photographs[2]})["img"]
    elsewhere = Corrupt()({**entry, "img_path": "else/n01440764/x.JPEG", "img": photographs[2]})["img"]
    assert given.tobytes() == elsewhere.tobytes()
    plain = corrupt(photographs[2], "pixelate", 4, image_name(entry["img_path"]))
    assert plain.tobytes() != given.tobytes()
    assert psnr(plain, given) > 28
    assert b"JFIF" in encode(plain)[:20]


def test_unknown_names_and_small_images_are_refused(photographs: list[Image.Image]) -> None:
    with pytest.raises(ValueError, match=r"unknown haze; choose from gaussian_noise, shot_noise"):
        corrupt(photographs[0], "haze", 1, "x")
    with pytest.raises(ValueError, match=r"severities=\[6\]: choose from 1, 2, 3, 4, 5"):
        corrupt(photographs[0], "fog", 6, "x")
    with pytest.raises(ValueError, match=r"n/x has 40 x 31 pixels; Corrupt needs at least 32 x 32"):
        corrupt(Image.new("RGB", (40, 31)), "fog", 1, "n/x")


def test_without_the_library(photographs: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruption_module, "_LIBRARY", "a-package-that-nobody-has")
    with pytest.raises(
        FileNotFoundError, match=r"not installed: pip install scikit-image numba && pip install --no-deps"
    ):
        corrupt(photographs[0], "fog", 1, "n/x")
