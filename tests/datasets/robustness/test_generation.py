import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proteus.datasets import (
    CenterCrop,
    Corrupt,
    CorruptImageError,
    GeneratedImageNetC,
    ImageNetC,
    LoadImage,
    PackInputs,
    ResizeEdge,
    ToTensor,
)
from proteus.datasets.robustness import generate, imagenet_wnids
from proteus.structures import LockedError

pytest.importorskip("imagecorruptions")
TWO = (imagenet_wnids()[5], imagenet_wnids()[700])
SOME = ("impulse_noise", "frost", "pixelate")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two classes with two images larger than 224 px, one of them a PNG."""
    generator = np.random.default_rng(0)
    for number, wnid in enumerate(TWO):
        (tmp_path / "val" / wnid).mkdir(parents=True)
        for ending in ("JPEG", "png"):
            colours = generator.integers(0, 255, (6, 8, 3), dtype=np.uint8)
            image = Image.fromarray(colours).resize((320, 260), Image.Resampling.BICUBIC)
            image.save(tmp_path / "val" / wnid / f"{number}_{ending.lower()}.{ending}")
    return tmp_path / "val"


def quiet(line: str) -> None:
    pass


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.JPEG"))}


def test_generated_and_on_the_fly_images_are_identical(source: Path, tmp_path: Path) -> None:
    marker = generate(source, tmp_path / "c", SOME, all_classes=False, report=quiet)
    assert marker.finished == list(SOME)
    packing = [ToTensor(), PackInputs(keys=("corruption", "severity"))]
    on_disk = ImageNetC(str(tmp_path / "c"), [LoadImage(), CenterCrop(224), *packing], all_classes=False)
    steps = [LoadImage(), ResizeEdge(256, interpolation="bilinear"), CenterCrop(224), Corrupt(), *packing]
    on_the_fly = GeneratedImageNetC(str(source), steps, corruptions=SOME, all_classes=False)
    assert len(on_disk) == len(on_the_fly) == 3 * 5 * 4
    for i in range(0, len(on_disk), 7):
        one, other = on_disk[i], on_the_fly[i]
        assert one["inputs"].shape == (3, 224, 224)
        assert (one["inputs"] == other["inputs"]).all()
        for key in ("corruption", "severity", "label"):
            assert one["data_samples"].get(key) == other["data_samples"].get(key)
    assert on_disk.source == on_the_fly.source
    assert on_disk.source.startswith("ImageNet-C generated with imagecorruptions-imaug ")


def test_resume_after_an_interruption(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "c"
    whole = tmp_path / "whole"
    generate(source, whole, SOME, all_classes=False, report=quiet)

    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(source, target, SOME, all_classes=False, report=stop)
    assert 0 < len(contents(target)) < len(contents(whole))
    with pytest.raises(ValueError, match=r"the generation of impulse_noise, frost, pixelate was not finished"):
        ImageNetC(str(target), all_classes=False)
    (target / "frost/2" / TWO[0] / "0_jpeg.JPEG").unlink()
    lines: list[str] = []
    generate(source, target, SOME, workers=2, all_classes=False, report=lines.append)
    assert contents(target) == contents(whole)
    assert sorted(line.partition(" ")[2].partition(";")[0] for line in lines) == [
        f"{TWO[0]}: 1 images written, 29 were there",
        f"{TWO[1]}: 30 images written",
    ]
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*.JPEG")}
    marker = generate(source, target, ["fog"], all_classes=False, report=quiet)
    assert marker.finished == ["impulse_noise", "frost", "fog", "pixelate"]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert not list(target.rglob("*.part"))


def test_invalid_arguments_and_folders(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "c"
    with pytest.raises(ValueError, match=r"ImageNet-1K validation has 1000 class folders; .*val has 2"):
        generate(source, target, SOME, report=quiet)
    with pytest.raises(ValueError, match=r"unknown rain; choose from"):
        generate(source, target, ["rain"], all_classes=False, report=quiet)
    assert not target.exists()
    generate(source, target, ["pixelate"], all_classes=False, report=quiet)
    marker = json.loads((target / "generated.json").read_text())
    (target / "generated.json").write_text(json.dumps({**marker, "library": "imagecorruptions-imaug 0.9"}))
    with pytest.raises(
        ValueError, match=r"c was generated with imagecorruptions-imaug 0\.9, not imagecorruptions-imaug"
    ):
        generate(source, target, ["pixelate"], all_classes=False, report=quiet)
    (target / "generated.json").write_text(json.dumps({**marker, "images": 50_000}))
    with pytest.raises(ValueError, match=r"c was generated from 50,000 images, not 4$"):
        generate(source, target, ["pixelate"], all_classes=False, report=quiet)
    (target / "generated.json").unlink()
    with pytest.raises(ValueError, match=r"c has other files; give an empty folder"):
        generate(source, target, ["pixelate"], all_classes=False, report=quiet)
    first = source / TWO[0] / "0_png.png"
    first.rename(first.with_name("1.png"))
    (tmp_path / "d").mkdir()
    (tmp_path / "d/generated.json").write_text(json.dumps(marker))
    with pytest.raises(ValueError, match=r"d was generated from images with other names"):
        generate(source, tmp_path / "d", ["pixelate"], all_classes=False, report=quiet)
    (source / TWO[0] / "1.JPEG").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{TWO[0]}/1\.png and {TWO[0]}/1\.JPEG would both be written as {TWO[0]}/1"):
        generate(source, tmp_path / "e", ["pixelate"], all_classes=False, report=quiet)
    (source / TWO[0] / "1.png").unlink()
    with pytest.raises(CorruptImageError, match=rf"{TWO[0]}/1\.JPEG"):
        generate(source, tmp_path / "e", ["pixelate"], all_classes=False, report=quiet)


def test_a_second_process_is_locked_out(source: Path, tmp_path: Path) -> None:
    def second(line: str) -> None:
        refused.append(line)
        with pytest.raises(LockedError, match="in use by generating ImageNet-C, process"):
            generate(source, tmp_path / "c", SOME[2:], all_classes=False, report=quiet)

    refused: list[str] = []
    generate(source, tmp_path / "c", SOME[2:], all_classes=False, report=second)
    assert len(refused) == 2
    victim = next((tmp_path / "c").rglob("*.JPEG"))
    whole = victim.read_bytes()
    victim.write_bytes(b"")  # as a power failure may leave it
    generate(source, tmp_path / "c", SOME[2:], all_classes=False, report=quiet)
    assert victim.read_bytes() == whole
