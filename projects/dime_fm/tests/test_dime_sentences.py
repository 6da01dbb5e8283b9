"""Sentence sets, and their batches with images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from runs import write_images

from projects.dime_fm.sentences import SentenceSet
from projects.dime_fm.unpaired import UnpairedSet, drawn, unpaired_collate
from proteus.datasets import SampleKey
from proteus.structures import DataError

PIPELINE = [
    {"type": "proteus.LoadImage"},
    {"type": "proteus.RandomResizedCrop", "scale": 28},
    {"type": "proteus.ToTensor"},
    {"type": "proteus.PackInputs"},
]


def write(path: Path, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def unpaired(folder: Path, sentences: str, count: int = 1) -> UnpairedSet:
    images = {"type": "ImageFolder", "data_root": str(folder), "pipeline": PIPELINE, "index_cache": False}
    return UnpairedSet(images, {"type": "SentenceSet", "list_file": sentences, "context_length": 12}, count)


def test_lines_of_several_files(tmp_path: Path) -> None:
    one = write(tmp_path / "one.txt", "\ufeffa dog\n\n   \r\n  a b\u00e4r  \r\nthe last has no line feed")
    two = write(tmp_path / "two.txt", "\n\na cat\n\n")
    found = SentenceSet([one, two])
    assert [found[i] for i in range(len(found))] == ["a dog", "a b\u00e4r", "the last has no line feed", "a cat"]


def test_columns_and_tokens(tmp_path: Path) -> None:
    found = SentenceSet(write(tmp_path / "table.txt", "n1\ta dog\nn2\ta cat\tmore\n"), column=1, context_length=6)
    tokens = found.tokens([1, 0])
    assert [found[0], found[1]] == ["a dog", "a cat"]
    assert tokens.shape == (2, 6)
    # CLIP's vocabulary: start, "a", "cat" or "dog", end.
    assert tokens.tolist() == [[49406, 320, 2368, 49407, 0, 0], [49406, 320, 1929, 49407, 0, 0]]


def test_splits_share_no_sentence(tmp_path: Path) -> None:
    lines = [f"sentence number {number % 150}" for number in range(300)]
    file = write(tmp_path / "all.txt", "\n".join(lines))
    parts = {split: SentenceSet(file, split=split, held_out=5) for split in ("all", "train", "held-out")}  # type: ignore[arg-type]
    found = {split: [part[i] for i in range(len(part))] for split, part in parts.items()}
    assert sorted(found["train"] + found["held-out"]) == sorted(found["all"])
    assert not set(found["train"]) & set(found["held-out"])
    assert 20 < len(found["held-out"]) < 110


def test_bad_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"sentences.list_file: .*none.txt does not exist"):
        SentenceSet(str(tmp_path / "none.txt"))
    with pytest.raises(DataError, match=r"no sentence in .*empty.txt"):
        SentenceSet(write(tmp_path / "empty.txt", ""))
    with pytest.raises(DataError, match=r"no sentence in .*blank.txt"):
        SentenceSet(write(tmp_path / "blank.txt", "\n  \n\t\n"))
    broken = SentenceSet(write(tmp_path / "latin.txt", b"fine\n\nb\xe4r\n"))
    with pytest.raises(DataError, match=r"latin.txt, line 3, is not UTF-8"):
        broken[1]
    narrow = SentenceSet(write(tmp_path / "narrow.txt", "a\tb\nc\n"), column=1)
    with pytest.raises(DataError, match=r"narrow.txt, line 2, has no sentence in column 1"):
        narrow[1]
    with pytest.raises(ValueError, match="split='test'"):
        SentenceSet(write(tmp_path / "fine.txt", "a"), split="test")  # type: ignore[arg-type]


def test_samples_depend_only_on_their_key(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 6)
    found = unpaired(folder, write(tmp_path / "s.txt", "\n".join(f"sentence {i}" for i in range(50))), count=3)
    key = SampleKey(7, 2, 4)
    torch.manual_seed(0)
    first = found[key]
    torch.manual_seed(1)
    again = found[key]
    assert first["tokens"].shape == (3, 12)
    assert torch.equal(first["tokens"], again["tokens"])
    assert torch.equal(first["inputs"], again["inputs"])
    assert torch.equal(first["inputs"], found.dataset[key]["inputs"])
    draws = [
        drawn(SampleKey(**{"seed": 7, "epoch": 2, "image": 4, **change}), found.sentences, 3)
        for change in ({}, {"seed": 8}, {"epoch": 3}, {"image": 5}, {"view": 1})
    ]  # type: ignore[arg-type]
    assert len({tuple(draw) for draw in draws}) == 5


def test_images_and_sentences_are_drawn_independently(tmp_path: Path) -> None:
    """Every pair is equally frequent, so the expected loss does not depend on the order of the files."""
    folder = write_images(tmp_path / "images", 4)
    found = unpaired(folder, write(tmp_path / "s.txt", "\n".join(f"sentence {i}" for i in range(4))))
    for image in range(4):
        counts = Counter(drawn(SampleKey(0, epoch, image), found.sentences, 1)[0] for epoch in range(2000))
        # 500 each; a standard deviation is 19.
        assert all(abs(counts[sentence] - 500) < 5 * 19.4 for sentence in range(4)), (image, counts)


def test_a_batch(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 4)
    found = unpaired(folder, write(tmp_path / "s.txt", "a dog\na cat\n"), count=2)
    batch = unpaired_collate([found[SampleKey(0, 0, i)] for i in range(3)])
    assert batch["inputs"].shape == (3, 3, 28, 28)
    assert batch["tokens"].shape == (6, 12)
    assert len(batch["data_samples"]) == 3
    assert "tokens" not in unpaired_collate([found.dataset[0]])
    with pytest.raises(ValueError, match="sentences_per_image=0"):
        unpaired(folder, str(tmp_path / "s.txt"), count=0)
