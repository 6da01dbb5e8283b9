from pathlib import Path

import pytest
from PIL import Image

from proteus.datasets import ImageFolder


def names(root: Path, **options) -> list[str]:
    folder = ImageFolder(str(root), **options)
    return [str(Path(folder.get_data_info(i)["img_path"]).relative_to(root)) for i in range(len(folder))]


def fill(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(("txt", "md")):
            (root / path).write_text("no image")
        else:
            Image.new("RGB", (4, 4)).save(root / path)


def test_nested_images_are_sorted(tmp_path: Path) -> None:
    fill(tmp_path, "b/2.JPG", "b/10.png", "a/x/y/1.jpeg", "0.webp", "b/readme.md", "labels.txt")
    assert names(tmp_path) == ["0.webp", "a/x/y/1.jpeg", "b/10.png", "b/2.JPG"]


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    fill(tmp_path, "elsewhere/1.png", "set/2.png")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "set") == ["2.png", "linked/1.png"]


def test_indices(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{number}.png" for number in range(6)))
    assert names(tmp_path, indices=2) == ["0.png", "1.png"]
    assert names(tmp_path, indices=[5, 0, 3]) == ["5.png", "0.png", "3.png"]


def test_train_and_held_out(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{number % 3}/{number:03}.png" for number in range(200)))
    train, held_out = names(tmp_path, split="train"), names(tmp_path, split="held-out")
    assert not set(train) & set(held_out)
    assert sorted(train + held_out) == names(tmp_path)
    assert 25 < len(held_out) < 58  # 40 expected, standard deviation 5.7
    assert len(names(tmp_path, split="held-out", held_out=0.5)) > 80


def test_splits_do_not_change_when_images_are_added_or_the_folder_moves(tmp_path: Path) -> None:
    old = [f"{number % 3}/{number:03}.png" for number in range(60)]
    fill(tmp_path / "here", *old)
    before = names(tmp_path / "here", split="held-out")
    fill(tmp_path / "here", *(f"new/{number}.png" for number in range(30)))
    assert [name for name in names(tmp_path / "here", split="held-out") if name in old] == before
    (tmp_path / "here").rename(tmp_path / "there")
    assert [name for name in names(tmp_path / "there", split="held-out") if name in old] == before


def test_invalid_folders_and_splits(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data_root: no folder .*nowhere; .*--cfg-options"):
        ImageFolder(str(tmp_path / "nowhere"))
    fill(tmp_path, "readme.txt")
    with pytest.raises(FileNotFoundError, match=r"data_root: no images in .*\.jpg"):
        ImageFolder(str(tmp_path))
    (tmp_path / "photo.heic").touch()
    with pytest.raises(FileNotFoundError, match=r"no images in .*; 1 \.heic file not read: convert it to JPEG or PNG$"):
        ImageFolder(str(tmp_path))
    fill(tmp_path, "1.png")
    with pytest.raises(FileNotFoundError, match=r"none of the 1 images in .* belongs to split='held-out'"):
        ImageFolder(str(tmp_path), split="held-out", held_out=0.0)
    with pytest.raises(ValueError, match="'all', 'train' or 'held-out'"):
        ImageFolder(str(tmp_path), split="test")
