from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from proteus.datasets import NYUDepth
from proteus.datasets.converters.nyu_labelled import convert_labelled
from proteus.structures import DataError

h5py = pytest.importorskip("h5py")
savemat = pytest.importorskip("scipy.io").savemat
SCENES = ["kitchen", "home_office", "bathroom", "kitchen"]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Official files with four frames, 2 and 4 of them for testing; HDF5 reverses the axes of MATLAB's arrays."""
    draw = np.random.default_rng(0)
    colours = draw.integers(60, 200, (4, 3, 1, 1)).repeat(640, 2).repeat(480, 3).astype(np.uint8)
    colours[:, :, :7], colours[:, :, 632:], colours[..., :7], colours[..., 474:] = (255,) * 4
    raw = draw.uniform(0.7, 9.9, (4, 640, 480)).astype(np.float32)
    raw[:, 100:110, 50] = 0
    raw[:, 3, 5] = 2.3456
    with h5py.File(tmp_path / "labelled.mat", "w", userblock_size=512) as file:
        file["images"], file["rawDepths"], file["depths"] = colours, raw, np.maximum(raw, 1)
        references = []
        for number, scene in enumerate(SCENES):
            file[f"#refs#/{number}"] = np.array([[ord(letter)] for letter in scene], np.uint16)
            references.append(file[f"#refs#/{number}"].ref)
        file.create_dataset("sceneTypes", data=np.array([references], h5py.ref_dtype), dtype=h5py.ref_dtype)
    savemat(tmp_path / "splits.mat", {"trainNdxs": np.array([[1], [3]]), "testNdxs": np.array([[2], [4]])})
    return tmp_path / "labelled.mat", tmp_path / "splits.mat"


def test_frames_match_hand_computed_values(files: Any, tmp_path: Path) -> None:
    out = tmp_path / "nyu"
    assert convert_labelled(*files, "test", out)[:2] == ((4, 0), 2)
    assert (out / "nyu_test.txt").read_text() == (
        "/home_office/rgb_00001.jpg /home_office/sync_depth_00001.png 518.8579\n"
        "/kitchen/rgb_00003.jpg /kitchen/sync_depth_00003.png 518.8579\n"
    )
    depth = np.asarray(Image.open(out / "kitchen/sync_depth_00003.png"))
    assert (depth.shape, depth.dtype) == ((480, 640), np.uint16)
    assert depth[5, 3] == 2346
    assert (depth[50, 100:110] == 0).all()
    with h5py.File(files[0]) as content:
        np.testing.assert_allclose(depth, content["rawDepths"][3].T * 1000, atol=0.51)
        colour = content["images"][3, :, 320, 240]
    image = np.asarray(Image.open(out / "kitchen/rgb_00003.jpg")).astype(int)
    assert np.abs(image[240, 320] - colour).max() <= 2
    assert image[2].max() < 10
    assert image[:, 636].max() < 10
    images = NYUDepth(str(out), "test")
    assert images.describe().endswith("2 pairs (officially 654)")
    convert_labelled(*files, "train", out)
    assert (out / "nyu_train.txt").read_text().startswith("/bathroom/rgb_00002.jpg ")


def test_filled_depths_and_kept_border(files: Any, tmp_path: Path) -> None:
    out = tmp_path / "nyu"
    convert_labelled(*files, "test", out)
    result = convert_labelled(*files, "test", out, depths="filled", black_border=False)
    assert result.counts == (4, 0)
    assert np.asarray(Image.open(out / "kitchen/sync_depth_00003.png"))[50, 100] == 1000
    assert np.asarray(Image.open(out / "kitchen/rgb_00003.jpg"))[2].min() > 245


def test_resume_after_an_interruption(files: Any, contents: Any, tmp_path: Path) -> None:
    out = tmp_path / "nyu"
    convert_labelled(*files, "test", out)
    whole = contents(out)
    (out / "nyu_test.txt").unlink()
    (out / "kitchen/rgb_00003.jpg").write_bytes(whole["kitchen/rgb_00003.jpg"][:3000])
    (out / "kitchen/sync_depth_00003.png").unlink()
    assert convert_labelled(*files, "test", out).counts == (2, 2)
    assert contents(out) == whole


def test_check_writes_nothing(files: Any, tmp_path: Path) -> None:
    out = tmp_path / "nyu"
    assert len(convert_labelled(*files, "test", out, check=True).problems) == 5
    assert not out.exists()
    convert_labelled(*files, "test", out)
    assert convert_labelled(*files, "test", out, check=True).problems == []
    assert len(convert_labelled(*files, "test", out, depths="filled", check=True).problems) == 2
    (out / "kitchen/rgb_00003.jpg").write_bytes(b"half")
    assert convert_labelled(*files, "test", out, check=True).problems == [f"{out}/kitchen/rgb_00003.jpg cannot be read"]


def test_unusable_files(files: Any, tmp_path: Path) -> None:
    labelled, splits = files
    out = tmp_path / "nyu"
    with pytest.raises(FileNotFoundError, match=r"none\.mat does not exist"):
        convert_labelled(tmp_path / "none.mat", splits, "test", out)
    with pytest.raises(DataError, match=r"splits\.mat is not a MATLAB 7\.3 file"):
        convert_labelled(splits, splits, "test", out)
    with pytest.raises(DataError, match=r"labelled\.mat .*: give splits\.mat"):
        convert_labelled(labelled, labelled, "test", out)
    savemat(splits, {"trainNdxs": np.array([[1]]), "testNdxs": np.array([[5]])})
    with pytest.raises(DataError, match=r"names frame 5, and .* has frames 1 to 4: they do not belong together"):
        convert_labelled(labelled, splits, "test", out)
    with h5py.File(labelled, "a") as content:
        del content["rawDepths"]
    with pytest.raises(DataError, match=r"labelled\.mat lacks rawDepths; give nyu_depth_v2_labeled\.mat"):
        convert_labelled(labelled, splits, "train", out)
    with h5py.File(labelled, "a") as content:
        content["rawDepths"] = np.ones((4, 640, 480), np.float32)
        content["#refs#/0"][:3] = np.array([[46], [46], [47]])
    with pytest.raises(DataError, match=r"frame 1 has the scene type '\.\./chen', which cannot be a folder's name"):
        convert_labelled(labelled, splits, "train", out)
    labelled.write_bytes(labelled.read_bytes()[:100_000])
    with pytest.raises(DataError, match=r"labelled\.mat is not a MATLAB 7\.3 file, or is truncated"):
        convert_labelled(labelled, splits, "train", out)
    assert list(out.rglob("*.jpg")) == []
