"""Files of captions and their images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proteus.datasets import CaptionedImages
from proteus.datasets.captions import has_captions

PAIRS = {"a/1.jpg": ["a dog", "the dog"], "2.jpg": ["ein Büro, leer"]}


def write(root: Path, name: str, text: str, images: tuple[str, ...] = tuple(PAIRS)) -> Path:
    for image in images:
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        (root / image).touch()
    (root / name).write_text(text, encoding="utf-8")
    return root


def karpathy(*images: dict[str, Any]) -> str:
    return json.dumps({"images": images, "dataset": "coco"})


def image(name: str, captions: list[str], split: str = "test", **folder: str) -> dict[str, Any]:
    return {"filename": name, "split": split, "sentences": [{"raw": each, "tokens": []} for each in captions], **folder}


LAYOUTS = {
    "lists.jsonl": "".join(json.dumps({"image": name, "captions": own}) + "\n" for name, own in PAIRS.items()),
    "lines.jsonl": '{"image": "a/1.jpg", "caption": "a dog"}\n\n{"image": "2.jpg", "caption": "ein Büro,  leer"}\n'
    '{"image": "a/1.jpg", "caption": " the\\ndog"}\n',
    "rows.csv": 'image,number,caption\na/1.jpg,0,a dog\n2.jpg,0,"ein Büro, leer"\na/1.jpg,1,the dog\n',
    "splits.json": karpathy(
        image("1.jpg", PAIRS["a/1.jpg"], filepath="a"),
        image("none.jpg", ["left out"], split="train"),
        image("2.jpg", PAIRS["2.jpg"]),
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_all_layouts_give_the_same_captions(tmp_path: Path, name: str) -> None:
    found = CaptionedImages(str(write(tmp_path, name, LAYOUTS[name])), ann_file=name)
    assert found.paths == [str(tmp_path / image) for image in PAIRS]
    assert found.captions == list(PAIRS.values())


def test_images_of_flickr30k_are_in_their_own_folder(tmp_path: Path) -> None:
    file = karpathy(image("7.jpg", ["a"]), image("8.jpg", ["b"], split="val"))
    write(tmp_path, "dataset_flickr30k.json", file, ("flickr30k-images/7.jpg", "flickr30k-images/8.jpg"))
    assert CaptionedImages(str(tmp_path)).paths == [str(tmp_path / "flickr30k-images/7.jpg")]
    assert CaptionedImages(str(tmp_path), split="val").captions == [["b"]]
    with pytest.raises(ValueError, match=r"has no images of split='tset'"):
        CaptionedImages(str(tmp_path), split="tset")


def test_flickr8k_is_read_as_distributed(tmp_path: Path) -> None:
    write(tmp_path, "captions.txt", "2.jpg a dog\n", ("Images/7.jpg",))
    assert not has_captions(tmp_path)
    write(tmp_path, "captions.txt", 'image,caption\n7.jpg,"A dog , and a cat ."\n7.jpg,A pet .\n', ())
    assert has_captions(tmp_path)
    found = CaptionedImages(str(tmp_path))
    assert found.paths[0].lower() == str(tmp_path / "images/7.jpg").lower()
    assert found.captions == [["A dog , and a cat .", "A pet ."]]


def test_the_file_is_found_by_its_name(tmp_path: Path) -> None:
    assert not has_captions(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has no file of captions; expected captions\.jsonl, captions\.csv"):
        CaptionedImages(str(tmp_path))
    write(tmp_path, "dataset_coco.json", LAYOUTS["splits.json"])
    write(tmp_path, "dataset_flickr30k.json", LAYOUTS["splits.json"])
    assert has_captions(tmp_path)
    with pytest.raises(ValueError, match=r"several files of captions \(dataset_coco\.json, dataset_flickr30k\.json\)"):
        CaptionedImages(str(tmp_path))
    write(tmp_path, "captions.csv", LAYOUTS["rows.csv"])
    assert CaptionedImages(str(tmp_path)).captions == list(PAIRS.values())


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", '{"image": "2.jpg"', r"a\.jsonl, line 1: not JSON"),
        ("a.jsonl", '\n{"image": "2.jpg"}\n', r"a\.jsonl, line 2: expected \{\"image\""),
        ("a.jsonl", '{"image": "2.jpg", "captions": []}', r"line 1: expected the path of an image and a caption"),
        ("a.jsonl", '{"image": "2.jpg", "captions": ["a", 5]}', r"line 1: expected the path of an image"),
        ("a.jsonl", '{"image": "2.jpg", "captions": "a dog"}', r"line 1: expected the path of an image"),
        ("a.jsonl", "\n", r"a\.jsonl has no images"),
        (
            "a.jsonl",
            '{"image": "3.jpg", "caption": "a"}',
            r"1 of the 1 images in .* are missing, the first is .*3\.jpg",
        ),
        ("a.jsonl", '{"image": "2.jpg", "caption": "a"}\n{"image": "./2.jpg", "caption": "a"}', "in two ways"),
        ("a.jsonl", '{"image": "a/../../2.jpg", "caption": "a"}', r"a\.jsonl, line 1: '.*' leads out of the folder"),
        ("a.csv", "image,caption\n/etc/2.jpg,a dog\n", r"a\.csv, line 2: '/etc/2\.jpg' leads out of the folder"),
        ("a.csv", "file,text\n2.jpg,a\n", r"a\.csv, line 1: expected the header image,caption; found file,text"),
        ("a.csv", "image,caption\n2.jpg,a, b\n", r"a\.csv, line 2: more fields than the header"),
        ("a.csv", "image,caption\n2.jpg\n", r"a\.csv, line 2: expected the path of an image and a caption"),
        ("a.csv", "", r"a\.csv, line 1: expected the header"),
        ("a.csv", 'image,caption\n2.jpg,"a', r"a\.csv, line \d: not CSV"),
        ("a.json", "[]", r"a\.json is not in the layout of Karpathy's splits"),
        ("a.json", karpathy({"filename": "2.jpg"}), r"not in the layout of Karpathy's splits \(KeyError: 'split'\)"),
        ("a.json", karpathy(image("2.jpg", [])), r"a\.json, image 0: expected the path"),
        ("a.txt", "2.jpg a", r"a\.txt, line 1: expected the header image,caption; found 2\.jpg a"),
        ("a.md", "2.jpg a", r"a\.md should be a \.jsonl, \.csv, \.txt or \.json file"),
        ("a.csv", "image,caption\n2.jpg,\udcff\n", r"a\.csv is not a text file in UTF-8"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, name: str, text: str, words: str) -> None:
    write(tmp_path, "2.txt", "", ("2.jpg",))
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises((ValueError, FileNotFoundError), match=words) as refused:
        CaptionedImages(str(tmp_path), ann_file=name)
    assert "\n" not in str(refused.value)
