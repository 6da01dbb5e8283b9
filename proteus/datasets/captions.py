"""Images with captions, in the layouts of COCO and Flickr30k or with a file of captions."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from mmengine.dataset import Compose
from torch.utils.data import Dataset

from proteus.registry import DATASETS, TRANSFORMS
from proteus.structures import DataError
from proteus.utils.files import check_inside, decode_text, read_lines

Captions = dict[str, list[str]]
"""Captions by image, both in the order of the file; images are paths relative to the folder."""

_FILES = ("captions.jsonl", "captions.csv", "captions.txt", "dataset_*.json")
# Below the folder of the set: as in the file; the folders of Flickr8k's and Flickr30k's archives, and of Karpathy's.
_FOLDERS = ("", "images", "Images", "flickr30k-images", "flickr30k_images")
_HEADER = {"image", "caption"}


@DATASETS.register_module()
class CaptionedImages(Dataset):
    """Images, each with one or more captions (docs/evaluate.md#image-text-retrieval).

    Args:
        data_root: Folder of the set.
        ann_file: File of captions in that folder (:func:`read_captions`); by
            default the first that exists of ``captions.jsonl``, ``captions.csv``, ``captions.txt`` (with the header of
            ``captions.csv``) and ``dataset_*.json``.
        split: Split of Karpathy's file; others have one split.
        pipeline: Transforms of an image.

    Attributes:
        paths: Path of each image, in the order of the file.
        captions: Captions of each image.

    Raises:
        FileNotFoundError: The file of captions or an image does not exist.
        DataError: The file has another layout; the message names the line.
    """

    folder = "."
    layout = "captions.jsonl, captions.csv, Flickr8k's captions.txt or Karpathy's dataset_*.json, and its images"

    def __init__(
        self,
        data_root: str,
        ann_file: str | None = None,
        split: str = "test",
        pipeline: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.data_root = data_root
        root = Path(data_root).expanduser()
        file = root / ann_file if ann_file is not None else _find_file(root)
        captions = read_captions(file, split)
        self.paths = _find_images(root, list(captions), file)
        self.captions = list(captions.values())
        self.pipeline = Compose([TRANSFORMS.build(dict(step)) for step in pipeline])

    @classmethod
    def find(cls, root: Path) -> Path | None:
        """Return None: the config names the folder."""
        return None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        """Return the sample of an image, without its captions.

        Raises:
            CorruptImageError: The image cannot be read.
        """
        return self.pipeline({"img_path": self.paths[index]})


def has_captions(folder: str | Path) -> bool:
    """Return whether a folder has a file of captions."""
    return any(_candidates(Path(folder).expanduser(), name) for name in _FILES)


def _candidates(root: Path, name: str) -> list[Path]:
    found = sorted(root.glob(name))
    # A text file of this name may hold anything else.
    return [path for path in found if path.suffix != ".txt" or _has_header(path)]


def _has_header(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline(1000).decode("utf-8-sig", "replace")
    return _HEADER.issubset(name.strip(' \r\n"') for name in first.split(","))


def _find_file(root: Path) -> Path:
    for name in _FILES:
        found = _candidates(root, name)
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise DataError(f"{root} has several files of captions ({names}): name one with ann_file")
        if found:
            return found[0]
    raise FileNotFoundError(f"{root} has no file of captions; expected {CaptionedImages.layout}")


def _find_images(root: Path, names: Sequence[str], file: Path) -> list[str]:
    found, missing = [], []
    for name in names:
        path = next((path for folder in _FOLDERS if (path := root / folder / name).is_file()), None)
        if path is None:
            missing.append(name)
        else:
            found.append(str(path))
    if missing:
        raise FileNotFoundError(
            f"{len(missing):,} of the {len(names):,} images in {file} are missing, the first is {root / missing[0]}"
        )
    if len(set(found)) < len(found):
        raise DataError(f"{file} names an image in two ways, such as 1.jpg and ./1.jpg; write one name for each")
    return found


def read_captions(path: Path, split: str) -> Captions:
    """Read a file of captions.

    - ``*.jsonl``: ``{"image": "a/1.jpg", "captions": ["...", "..."]}`` on each line, or ``"caption": "..."`` of one.
    - ``*.csv`` and ``*.txt``: a row per caption, below the header ``image,caption``.
    - ``*.json``: Karpathy's splits of COCO and Flickr30k.

    Args:
        path: The file.
        split: Split of Karpathy's file: ``train``, ``restval``, ``val`` or ``test``. Other files have one split.

    Raises:
        FileNotFoundError: The file does not exist.
        DataError: The file has another layout or no images of the split, an image has no caption, or its path leads out
            of the folder; the message names the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file of captions {path}; name it with ann_file")
    readers: dict[str, Callable[[], Iterator[tuple[str, str, Any]]]] = {
        ".jsonl": lambda: _json_lines(path),
        ".csv": lambda: _csv_rows(path),
        ".txt": lambda: _csv_rows(path),
        ".json": lambda: _karpathy(path, split),
    }
    if path.suffix not in readers:
        raise DataError(f"{path} should be a .jsonl, .csv, .txt or .json file of captions")
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
        found.setdefault(check_inside(image.strip(), f"{path}, {where}"), []).extend(texts)
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
        missing = _HEADER - set(rows.fieldnames or ())
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
