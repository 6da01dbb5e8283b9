"""What a run notes of its images repeats its choice."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PIL import Image

from proteus.datasets import ConcatProxySet, ImageFolder
from proteus.engine.hooks import ProxySetHook


def images(folder: Path, count: int) -> Path:
    for number in range(count):
        path = folder / str(number % 2) / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    return folder


def note(dataset: Any, work_dir: Path) -> None:
    work_dir.mkdir()
    runner: Any = SimpleNamespace(
        train_dataloader=SimpleNamespace(dataset=dataset), work_dir=str(work_dir), logger=logging.getLogger("note")
    )
    ProxySetHook().before_train(runner)


def test_the_list_repeats_the_choice(tmp_path: Path, caplog) -> None:
    folder = images(tmp_path / "images", 20)
    part = ImageFolder(str(folder), images_per_class=3, subset_seed=5)
    with caplog.at_level(logging.INFO, "note"):
        note(part, tmp_path / "run")
    assert "proxy set: ImageFolder" in caplog.text
    again = ImageFolder(str(folder), list_file=str(tmp_path / "run/proxy_set.txt"))
    assert [part.get_data_info(i)["img_path"] for i in range(6)] == [
        again.get_data_info(i)["img_path"] for i in range(len(again))
    ]


def test_a_whole_set_needs_no_list(tmp_path: Path) -> None:
    note(ImageFolder(str(images(tmp_path / "images", 4))), tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_sets_of_a_merge_have_lists_by_name(tmp_path: Path) -> None:
    first, second = images(tmp_path / "first", 8), images(tmp_path / "second", 8)
    merge = ConcatProxySet(
        datasets=dict(
            photos=dict(type="proteus.ImageFolder", data_root=str(first), images_per_class=1),
            drawings=dict(type="proteus.ImageFolder", data_root=str(second), images_per_class=2),
        )
    )
    note(merge, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"proxy_set.photos.txt", "proxy_set.drawings.txt"}


def test_other_data_sets_are_left_alone(tmp_path: Path) -> None:
    note([1, 2, 3], tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())
