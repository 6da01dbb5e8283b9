from pathlib import Path
from typing import Any

import pytest

from proteus.datasets.converters.ade20k import convert
from proteus.structures import DataError, LockedError
from proteus.utils import exclusive


@pytest.fixture
def files(picture: Any) -> dict[str, bytes]:
    """The archive's layout: two training images, one validation image."""
    found = {"objectInfo150.txt": b"Idx", "sceneCategories.txt": b"ADE_train_00000001 airport", "index.mat": b"?"}
    for split, names in (
        ("training", ["ADE_train_00000001", "ADE_train_00000002"]),
        ("validation", ["ADE_val_00000001"]),
    ):
        for name in names:
            found[f"images/{split}/{name}.jpg"] = picture("JPEG")
            found[f"annotations/{split}/{name}.png"] = picture("PNG", "L", 3)
    return found


def archive(files: dict[str, bytes], path: Path, zipped: Any, prefix: str = "ADEChallengeData2016/") -> Path:
    return zipped(path, {prefix + name: content for name, content in files.items()})


@pytest.mark.parametrize("prefix", ["ADEChallengeData2016/", "", "data/ade/"])
def test_mmsegs_folders(prefix: str, files: dict, zipped: Any, contents: Any, tmp_path: Path) -> None:
    path = archive(files, tmp_path / "a.zip", zipped, prefix)
    result = convert(path, tmp_path / "ade")
    files.pop("index.mat")
    assert contents(tmp_path / "ade") == files
    assert result.done == (8, 0)
    assert result.deviation == ("2 images for training, officially 20,210; 1 images for validation, officially 2,000")
    assert convert(path, tmp_path / "ade").done == (0, 8)


def test_mmsegs_own_set_reads_it(files: dict, zipped: Any, tmp_path: Path) -> None:
    ade = pytest.importorskip("mmseg.datasets").ADE20KDataset
    convert(archive(files, tmp_path / "a.zip", zipped), tmp_path / "ade")
    prefix = dict(img_path="images/training", seg_map_path="annotations/training")
    images = ade(data_root=str(tmp_path / "ade"), data_prefix=prefix, pipeline=[])
    assert len(images) == 2
    assert all(Path(images.get_data_info(i)[key]).is_file() for i in range(2) for key in ("img_path", "seg_map_path"))


def test_a_check_writes_nothing(files: dict, zipped: Any, contents: Any, tmp_path: Path) -> None:
    path = archive(files, tmp_path / "a.zip", zipped)
    assert len(convert(path, tmp_path / "ade", check=True).problems) == 8
    assert not (tmp_path / "ade").exists()
    convert(path, tmp_path / "ade")
    assert convert(path, tmp_path / "ade", check=True).problems == []
    (tmp_path / "ade/annotations/validation/ADE_val_00000001.png").write_bytes(b"half")
    (problem,) = convert(path, tmp_path / "ade", check=True).problems
    assert "ADE_val_00000001.png is not what" in problem


def test_an_image_without_its_annotation(files: dict, zipped: Any, tmp_path: Path) -> None:
    del files["annotations/training/ADE_train_00000002.png"]
    path = archive(files, tmp_path / "a.zip", zipped)
    with pytest.raises(DataError, match=r"images/training/ADE_train_00000002\.jpg has no annotation; get"):
        convert(path, tmp_path / "ade")
    del files["images/training/ADE_train_00000001.jpg"]
    path = archive(files, tmp_path / "a.zip", zipped)
    with pytest.raises(DataError, match=r"ADE_train_00000001\.png has no image, and 1 more are alone"):
        convert(path, tmp_path / "ade")


def test_another_archive(files: dict, zipped: Any, tmp_path: Path) -> None:
    path = zipped(tmp_path / "full.zip", {"ADE20K_2016_07_26/images/training/a/abbey/ADE_train_00000970.jpg": b"x"})
    with pytest.raises(DataError, match=r"full\.zip has no images/training/\*\.jpg; what is needed is ADEChallenge"):
        convert(path, tmp_path / "ade")
    doubled = {**{f"a/{name}": one for name, one in files.items()}, **{f"b/{name}": one for name, one in files.items()}}
    with pytest.raises(DataError, match=r"has images in several places \(a/, b/\)"):
        convert(zipped(tmp_path / "double.zip", doubled), tmp_path / "ade")


def test_a_second_process_is_refused(files: dict, zipped: Any, tmp_path: Path) -> None:
    path = archive(files, tmp_path / "a.zip", zipped)
    with (
        exclusive(tmp_path / "ade", "unpacking ADE20K"),
        pytest.raises(LockedError, match="in use by unpacking ADE20K"),
    ):
        convert(path, tmp_path / "ade")
    assert convert(path, tmp_path / "ade").done == (8, 0)
