from pathlib import Path
from typing import Any

import pytest

from proteus.datasets import NYUDepth
from proteus.datasets.converters.nyu_archive import convert_archive
from proteus.structures import DataError, LockedError
from proteus.utils import exclusive


def pair(picture: Any, folder: str, number: str) -> dict[str, bytes]:
    return {
        f"{folder}/rgb_{number}.jpg": picture("JPEG"),
        f"{folder}/sync_depth_{number}.png": picture("PNG", "I;16", 2500),
    }


@pytest.fixture
def train(picture: Any, zipped: Any, tmp_path: Path) -> Path:
    """``sync.zip`` as distributed by BTS: pairs without a list."""
    files = {**pair(picture, "sync/kitchen_0028b", "00045"), **pair(picture, "sync/attic_0001", "00000")}
    return zipped(tmp_path / "sync.zip", {**files, **pair(picture, "sync/attic_0001", "00007")})


@pytest.fixture
def tested(picture: Any, zipped: Any, tmp_path: Path) -> Path:
    """The labelled frames as written by BTS's script: both official splits."""
    files = {
        **pair(picture, "official_splits/train/bathroom", "00003"),
        **pair(picture, "official_splits/test/bathroom", "00045"),
    }
    return zipped(tmp_path / "official_splits.zip", files)


def test_toolbox_layout_from_two_archives(train: Path, tested: Path, contents: Any, tmp_path: Path) -> None:
    out = tmp_path / "nyu"
    assert convert_archive(train, "train", out)[:2] == ((6, 0), 3)
    assert convert_archive(tested, "test", out)[:2] == ((2, 0), 1)
    assert (out / "nyu_train.txt").read_text() == (
        "/attic_0001/rgb_00000.jpg /attic_0001/sync_depth_00000.png 518.8579\n"
        "/attic_0001/rgb_00007.jpg /attic_0001/sync_depth_00007.png 518.8579\n"
        "/kitchen_0028b/rgb_00045.jpg /kitchen_0028b/sync_depth_00045.png 518.8579\n"
    )
    assert (out / "nyu_test.txt").read_text() == "/bathroom/rgb_00045.jpg /bathroom/sync_depth_00045.png 518.8579\n"
    assert len(contents(out)) == 10
    assert (len(NYUDepth(str(out))), len(NYUDepth(str(out), "test"))) == (3, 1)
    assert convert_archive(train, "train", out).counts == (0, 6)


def test_archive_with_its_own_lists(picture: Any, zipped: Any, tmp_path: Path) -> None:
    files = {**pair(picture, "nyu/kitchen_0028b", "00045"), **pair(picture, "nyu/bathroom", "00001")}
    files["nyu/nyu_train.txt"] = b"/kitchen_0028b/rgb_00045.jpg /kitchen_0028b/sync_depth_00045.png 500.5\n"
    files["nyu/nyudepthv2_test_files_with_gt.txt"] = b"bathroom/rgb_00001.jpg bathroom/sync_depth_00001.png\n"
    path, out = zipped(tmp_path / "nyu.zip", files), tmp_path / "nyu"
    convert_archive(path, "train", out)
    convert_archive(path, "test", out)
    assert (out / "nyu_train.txt").read_text().split() == [
        "/kitchen_0028b/rgb_00045.jpg", "/kitchen_0028b/sync_depth_00045.png", "500.5"
    ]  # fmt: skip
    assert (out / "nyu_test.txt").read_text().startswith("/bathroom/rgb_00001.jpg ")


def test_user_supplied_list(train: Path, tmp_path: Path) -> None:
    listed = tmp_path / "mine.txt"
    listed.write_text("attic_0001/rgb_00007.jpg attic_0001/sync_depth_00007.png 5\n")
    assert convert_archive(train, "train", tmp_path / "nyu", listed).frames == 1
    listed.write_text("\nattic_0001/rgb_00008.jpg attic_0001/sync_depth_00008.png 5\n")
    with pytest.raises(DataError, match=r"mine\.txt, line 2: .*sync\.zip has no attic_0001/rgb_00008\.jpg"):
        convert_archive(train, "train", tmp_path / "nyu", listed)
    listed.write_text("attic_0001/rgb_00008.jpg\n")
    with pytest.raises(DataError, match=r"mine\.txt, line 1: .* is not IMAGE DEPTH FOCAL"):
        convert_archive(train, "train", tmp_path / "nyu", listed)
    listed.write_text("\n")
    with pytest.raises(DataError, match=r"mine\.txt lists no pairs"):
        convert_archive(train, "train", tmp_path / "nyu", listed)


def test_resume_after_an_interruption(train: Path, contents: Any, tmp_path: Path) -> None:
    out, whole = tmp_path / "nyu", train.read_bytes()
    place = whole.index(b"sync/attic_0001/rgb_00007.jpg") + 60
    train.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    with pytest.raises(DataError, match=r"sync/attic_0001/rgb_00007\.jpg is damaged"):
        convert_archive(train, "train", out)
    assert not (out / "nyu_train.txt").exists()
    train.write_bytes(whole)
    assert convert_archive(train, "train", out).counts == (2, 4)
    other = tmp_path / "unbroken"
    convert_archive(train, "train", other)
    assert contents(out) == contents(other)


def test_check_writes_nothing(train: Path, tmp_path: Path) -> None:
    out = tmp_path / "nyu"
    assert len(convert_archive(train, "train", out, check=True).problems) == 7
    assert not out.exists()
    convert_archive(train, "train", out)
    assert convert_archive(train, "train", out, check=True).problems == []
    (out / "nyu_train.txt").write_text("")
    assert convert_archive(train, "train", out, check=True).problems == [f"{out}/nyu_train.txt lists other pairs"]


def test_unusable_archives(picture: Any, zipped: Any, tmp_path: Path) -> None:
    files = pair(picture, "sync/attic_0001", "00007")
    doubled = files | pair(picture, "again/attic_0001", "00007")
    with pytest.raises(DataError, match=r"a\.zip has attic_0001/rgb_00007\.jpg twice: sync/.* and again/"):
        convert_archive(zipped(tmp_path / "a.zip", doubled), "train", tmp_path / "nyu")
    del files["sync/attic_0001/sync_depth_00007.png"]
    with pytest.raises(DataError, match=r"sync/attic_0001/rgb_00007\.jpg has no depth map attic_0001/sync_depth_00007"):
        convert_archive(zipped(tmp_path / "b.zip", files), "train", tmp_path / "nyu")
    with pytest.raises(DataError, match=r"c\.zip has no SCENE/rgb_NUMBER\.jpg"):
        convert_archive(zipped(tmp_path / "c.zip", {"a.txt": b"x"}), "train", tmp_path / "nyu")


def test_a_second_process_is_locked_out(train: Path, tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "nyu", "converting NYU Depth V2 (train)"),
        pytest.raises(LockedError, match=r"nyu: in use by converting NYU Depth V2 \(train\)"),
    ):
        convert_archive(train, "train", tmp_path / "nyu")
    assert convert_archive(train, "train", tmp_path / "nyu").frames == 3
