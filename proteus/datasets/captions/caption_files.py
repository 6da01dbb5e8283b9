"""Read files of captions: Karpathy's splits, JSON lines and CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from proteus.structures import DataError
from proteus.utils.files import decode_text, read_lines

Captions = dict[str, list[str]]
"""Captions by image, both in the order of the file; images are paths relative to the folder."""


def read_captions(path: Path, split: str) -> Captions:
    """Read a file of captions.

    - ``*.jsonl``: ``{"image": "a/1.jpg", "captions": ["...", "..."]}`` on each line, or ``"caption": "..."`` of one.
    - ``*.csv``: a row per caption, below the header ``image,caption``.
    - ``*.json``: Karpathy's splits of COCO and Flickr30k.

    Args:
        path: The file.
        split: Split of Karpathy's file: ``train``, ``restval``, ``val`` or ``test``. Other files have one split.

    Raises:
        FileNotFoundError: The file does not exist.
        DataError: The file has another layout or no images of the split, or an image has no caption; the message names
            the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file of captions {path}; name it with ann_file")
    readers: dict[str, Callable[[], Iterator[tuple[str, str, Any]]]] = {
        ".jsonl": lambda: _json_lines(path),
        ".csv": lambda: _csv_rows(path),
        ".json": lambda: _karpathy(path, split),
    }
    if path.suffix not in readers:
        raise DataError(f"{path} should be a .jsonl, .csv or .json file of captions")
    found: Captions = {}
    for where, image, captions in readers[path.suffix]():
        texts = [" ".join(text.split()) for text in captions if isinstance(text, str)]
        if (
            not isinstance(image, str)
            or not image.strip()
            or not all(texts)
            or len(texts) != len(captions)
            or not texts
        ):
            raise DataError(f"{path}, {where}: expected the path of an image and a caption that is not empty")
        found.setdefault(image.strip(), []).extend(texts)
    if not found:
        raise DataError(f"{path} has no images" + (f" of split={split!r}" if path.suffix == ".json" else ""))
    return found


def _json_lines(path: Path) -> Iterator[tuple[str, Any, list[Any]]]:
    for number, line in enumerate(read_lines(path, strict=True), 1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, {where}: not JSON ({error})") from error
        if not isinstance(row, dict) or "image" not in row or ("caption" in row) == ("captions" in row):
            raise DataError(f'{path}, {where}: expected {{"image": "a.jpg", "captions": ["...", "..."]}}')
        captions = row["captions"] if "captions" in row else [row["caption"]]
        yield where, row["image"], captions if isinstance(captions, list) else []


def _csv_rows(path: Path) -> Iterator[tuple[str, Any, list[Any]]]:
    text = decode_text(path.read_bytes(), str(path), strict=True)
    rows = csv.DictReader(StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        missing = {"image", "caption"} - set(rows.fieldnames or ())
        if missing:
            raise DataError(
                f"{path}, line 1: expected the header image,caption; found {','.join(rows.fieldnames or ())}"
            )
        for row in rows:
            if None in row:
                raise DataError(f'{path}, line {rows.line_num}: more fields than the header; put captions into "..."')
            yield f"line {rows.line_num}", row["image"], [row["caption"]]
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: not CSV ({error})") from error


def _karpathy(path: Path, split: str) -> Iterator[tuple[str, Any, list[Any]]]:
    try:
        images = json.loads(decode_text(path.read_bytes(), str(path), strict=True))["images"]
        for number, image in enumerate(images):
            if image["split"] == split:
                sentences = [sentence["raw"] for sentence in image["sentences"]]
                folder = f"{image['filepath']}/" if image.get("filepath") else ""
                yield f"image {number}", f"{folder}{image['filename']}", sentences
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} is not in the layout of Karpathy's splits ({type(error).__name__}: {error}): it needs images with "
            "filename, split and sentences, each with raw"
        ) from error
