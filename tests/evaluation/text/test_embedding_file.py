"""Files of text embeddings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from proteus.evaluation.text import read_text_embeddings

ROWS = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32")
NAMES = ["red_house", "dog", "cat"]


def write(folder: Path, rows: Any = ROWS, names: list[str] = NAMES) -> Path:
    np.save(folder / "classes.npy", rows)
    (folder / "classes.txt").write_text("\n".join(names) + "\n")
    return folder / "classes.npy"


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_both_formats_give_the_ensemble_of_each_class(tmp_path: Path) -> None:
    save_file(dict(zip(NAMES, torch.from_numpy(ROWS), strict=True)), tmp_path / "a.safetensors")
    # In another order, with a class that only another set has left out.
    expected = unit(unit(ROWS).mean(1))[[2, 0]]
    for path in (tmp_path / "a.safetensors", write(tmp_path)):
        found = read_text_embeddings(path, ["cat", "red house"])
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    single = read_text_embeddings(write(tmp_path, ROWS[:, 0].astype("float16")), ["dog"])
    np.testing.assert_allclose(single.numpy(), unit(ROWS[1:2, 0]), atol=1e-3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: write(folder, names=["a", "b", "c"]), "no class 'dog' .2 of 2 .* it has 'a', 'b', 'c'"),
        (lambda folder: write(folder, ROWS[:2]), r"shape \(2, 4, 5\), and .*classes.txt 3 names"),
        (lambda folder: write(folder, np.ones((3, 5), int)), "holds int64"),
        (lambda folder: write(folder, np.zeros((3, 5))), "all zeros"),
        (lambda folder: write(folder, np.full((3, 5), np.nan)), "not finite"),
        (lambda folder: write(folder, np.array([{}, 1, 2], object)), "Object arrays cannot be loaded"),
        (lambda folder: folder / "none.npy", "none.npy is missing"),
        (lambda folder: (write(folder), (folder / "classes.txt").unlink())[0], "classes.txt is missing"),
        (lambda folder: folder.joinpath("a.pth").write_bytes(b"x") and folder / "a.pth", "a .safetensors or .npy file"),
    ],
    ids=["names", "rows", "integers", "zeros", "NaN", "pickle", "missing", "no names", "suffix"],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=words) as error:
        read_text_embeddings(make(tmp_path), ["dog", "cat"])
    assert "\n" not in str(error.value)


def test_damaged_and_uneven_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        read_text_embeddings(path, ["dog"])
    save_file({"dog": torch.ones(3), "cat": torch.ones(4), "cow": torch.ones(2, 2, 2)}, path)
    with pytest.raises(ValueError, match=r"widths \[3, 4\]"):
        read_text_embeddings(path, ["dog", "cat"])
    with pytest.raises(ValueError, match=r"'cow' is torch.float32 of shape \(2, 2, 2\)"):
        read_text_embeddings(path, ["cow"])


def test_a_repeated_text_has_one_embedding(tmp_path: Path) -> None:
    """Captions repeat in data sets; their rows may differ by rounding, but not more."""
    captions = ["a dog", "a cat", "a  dog"]
    path = write(tmp_path, np.stack([ROWS[0, 0], ROWS[1, 0], ROWS[0, 0] * (1 + 1e-5)]), captions)
    found = read_text_embeddings(path, captions, "caption").numpy()
    np.testing.assert_allclose(found, unit(ROWS[[0, 1, 0], 0]), atol=1e-4)
    with pytest.raises(ValueError, match=r"has two embeddings of 'a dog' that differ: keep one of them"):
        read_text_embeddings(write(tmp_path, ROWS[:, 0], captions), captions, "caption")
    assert read_text_embeddings(path, ["a cat"]).shape == (1, 5)
    with pytest.raises(
        ValueError, match=r"no caption 'a cow' \(1 of 1 captions are missing\).* as they are in the data"
    ):
        read_text_embeddings(path, ["a cow", "a cow"], "caption")
