import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from runs import run_code

from proteus.datasets import ImageFolder
from proteus.datasets.proxy.subsampling import choose, read_list, write_list

# Class sizes as uneven as ImageNet's: rounding each class separately would miss the total.
SIZES = {"ant": 13, "bee": 7, "cat": 5, "dog": 11, "eel": 1, "fox": 9, "gnu": 13}
PATHS = [f"{name}/{number:03}.jpg" for name, size in SIZES.items() for number in range(size)]


def classes(positions: list[int]) -> Counter:
    return Counter(PATHS[position].split("/")[0] for position in positions)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.37, 1.0])
def test_fractions_are_exact_in_total_and_within_one_image_per_class(share: float) -> None:
    positions = choose(PATHS, share, None, 0)
    assert positions == sorted(set(positions))
    assert len(positions) == int(share * len(PATHS) + 0.5)
    found = classes(positions)
    assert all(abs(found[name] - share * size) < 1 for name, size in SIZES.items())


def test_integers_are_counts_and_floats_are_fractions() -> None:
    assert classes(choose(PATHS, 1, None, 0)) == dict.fromkeys(SIZES, 1)
    assert len(choose(PATHS, 1.0, None, 0)) == len(PATHS)
    for amount in (3, 0.43):  # of 7
        found = classes(choose(PATHS, None, amount, 0))
        assert found == {name: SIZES[name] for name in found}
        assert len(found) == 3
    both = classes(choose(PATHS, 0.5, 4, 0))
    assert len(both) == 4
    assert both.total() == int(0.5 * sum(SIZES[name] for name in both) + 0.5)


def test_seeds_choose_evenly() -> None:
    """Over many seeds all images are equally likely."""
    seen = Counter(position for seed in range(400) for position in choose(PATHS, 0.5, None, seed))
    ants = [seen[position] for position, path in enumerate(PATHS) if path.startswith("ant")]
    assert min(ants) > 150  # 200 expected, less the rounding of 13 halves; standard deviation 10
    assert max(ants) < 260
    assert len({tuple(choose(PATHS, None, 3, seed)) for seed in range(20)}) > 10


def test_subsets_depend_only_on_names() -> None:
    chosen = {PATHS[position].split(".")[0] for position in choose(PATHS, 0.5, 4, 7)}
    backwards = [path.replace(".jpg", ".webp") for path in reversed(PATHS)]
    assert {backwards[position].split(".")[0] for position in choose(backwards, 0.5, 4, 7)} == chosen
    # Images of other classes do not change the subset of a class.
    more = [*PATHS, *(f"hen/{number}.jpg" for number in range(50))]
    ones = {PATHS[position] for position in choose(PATHS, 1, None, 7)}
    assert {more[position] for position in choose(more, 1, None, 7)} > ones


def test_another_process_chooses_the_same_subset() -> None:
    code = "from proteus.datasets.proxy.subsampling import choose\n"
    code += f"print(hash('seed'))\nprint(choose({PATHS!r}, 0.5, 4, 3))"
    *_, hashed, chosen = run_code(code).stdout.splitlines()
    assert int(hashed) != hash("seed") or "PYTHONHASHSEED" in os.environ
    assert chosen == str(choose(PATHS, 0.5, 4, 3))


@pytest.mark.parametrize(
    ("images_per_class", "wanted", "message"),
    [
        (1.5, None, r"images_per_class=1.5: write a fraction in \(0, 1\]"),
        (0, None, "images_per_class=0: only 13 in class 'ant' available"),
        (6, None, "images_per_class=6: only 5 in class 'cat' available"),
        (None, 8, "classes=8: only 7 available"),
        (None, 0.0, "classes=0.0: write a fraction"),
    ],
)
def test_too_large_amounts(images_per_class: float, wanted: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(PATHS, images_per_class, wanted, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ant", "bee"):
        for number in range(4):
            path = tmp_path / "set" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(path)
    Image.new("RGB", (4, 4)).save(tmp_path / "set/alone.png")
    return tmp_path / "set"


def test_subset_of_a_folder_and_of_its_list(folder: Path, tmp_path: Path) -> None:
    part = ImageFolder(str(folder), images_per_class=0.5, subset_seed=3)
    assert len(part) == 5  # of 9, including the class without a folder
    assert part.describe() == f"ImageFolder {folder}: 5 images of 9 (images_per_class=0.5, subset_seed=3)"
    (names,) = part.chosen().values()
    write_list(tmp_path / "list.txt", names, "of a test")
    again = ImageFolder(str(folder), list_file=str(tmp_path / "list.txt"))
    assert again.names() == names == part.names()
    assert again.chosen() == {"": names}
    assert [again.get_data_info(i)["img_path"] for i in range(5)] == [str(folder / name) for name in names]
    assert len(ImageFolder(str(folder), list_file=str(tmp_path / "list.txt"), indices=2)) == 2


def test_complete_sets_have_no_list(folder: Path) -> None:
    whole = ImageFolder(f"{folder}/")
    assert whole.chosen() == {}
    assert whole.names() == ["alone.png", *(f"{name}/{n}.png" for name in ("ant", "bee") for n in range(4))]
    assert whole.describe() == f"ImageFolder {folder}/: 9 images"


def test_invalid_lists(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    for text, message in {
        "# of a test\nant/0.png\nant/9.png\n": r"1 of the 2 images in .* are not below .*'ant/9.png'",
        "ant/0.png\nant/0.png\n": "lists images twice",
        "# of a test\n": "lists no images",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            ImageFolder(str(folder), list_file=str(path))
    with pytest.raises(FileNotFoundError, match=r"list_file: .*nowhere\.txt does not exist"):
        ImageFolder(str(folder), list_file=str(tmp_path / "nowhere.txt"))
    with pytest.raises(ValueError, match="remove images_per_class and classes"):
        ImageFolder(str(folder), list_file=str(path), classes=1)


def test_lists_keep_all_names(tmp_path: Path) -> None:
    names = ["ä b/ö#1.png", "#x/1.png", b"latin-\xe9.png".decode(errors="surrogateescape")]
    write_list(tmp_path / "list.txt", names, "of a test")
    assert read_list(str(tmp_path / "list.txt"), names[::-1]) == [2, 1, 0]
